//! The public API: sending tasks, composing trees, handlers and their context, directors,
//! messages, registered peers.
//!
//! May import everything above it, `model` to `operator`. Only this layer and those below it know
//! functions of the application.

pub(crate) mod compose;
pub(crate) mod context;
pub(crate) mod director;
pub(crate) mod failure;
pub(crate) mod handler;
pub(crate) mod macros;
pub(crate) mod named_director;
pub(crate) mod peer;
pub(crate) mod peers;
pub mod prelude;
pub mod private;
pub(crate) mod registry;
pub(crate) mod relative;
mod response;
pub(crate) mod states;
