//! The outbox: delivers messages, in one lane for each peer, so that an unreachable one delays no
//! other.
//!
//! May import `services` and what is above it. The rows of the outbox are the truth.

mod context;
mod deliveries;
mod lane;

pub(crate) use context::Outbox;
pub(crate) use deliveries::Deliveries;
