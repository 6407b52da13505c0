//! The way out: a lane delivers to each peer, so that one that is down slows no other.
//!
//! May import `services` and what is above it. The rows of the outbox are the truth.

mod context;
mod deliveries;
mod lane;

pub(crate) use context::Outbox;
pub(crate) use deliveries::Deliveries;
