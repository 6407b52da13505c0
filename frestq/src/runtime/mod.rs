//! What the parts of a running peer share: the clock, notifications, supervision of the tasks that
//! nothing works without.
//!
//! May import `model`.

pub(crate) mod clock;
pub(crate) mod notify;
pub(crate) mod supervisor;
