//! What happens by itself: due dates, heartbeats, runs of dead processes, pruning, and news from the
//! other processes of this peer.
//!
//! May import `services` and what is above it.

pub(crate) mod orphans;
pub(crate) mod pruning;
pub(crate) mod tending;
