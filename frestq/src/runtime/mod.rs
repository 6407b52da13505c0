//! Shared by the parts of a running peer: the clock, notifications, and supervision of its
//! essential tasks.
//!
//! May import `model`.

pub(crate) mod clock;
pub(crate) mod notify;
pub(crate) mod supervisor;
