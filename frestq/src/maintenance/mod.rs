//! Maintenance: timers, the heartbeat, recovery of interrupted tasks, pruning, and notifications
//! from the other processes of this peer.
//!
//! May import `services` and what is above it.

pub(crate) mod background;
pub(crate) mod orphans;
pub(crate) mod pruning;
