//! Operator commands: cancel, finish, deny, retry, prune, add and remove peers.
//!
//! May import `maintenance`, `services` and what is above them.

pub(crate) mod commands;
pub(crate) mod peers;
mod retry;
