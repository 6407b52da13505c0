//! The public API: sending tasks, composing trees, handlers and their context, directors,
//! messages, registered peers.
//!
//! May import everything above it, `model` to `operator`. Only this layer and those below it know
//! functions of the application. Without the feature `server` only the contract of actions and the
//! builders of tasks compile.

pub(crate) mod compose;
#[cfg(feature = "server")]
pub(crate) mod context;
#[cfg(feature = "server")]
pub(crate) mod director;
#[cfg(feature = "server")]
pub(crate) mod failure;
#[cfg(feature = "server")]
pub(crate) mod handler;
pub(crate) mod macros;
pub(crate) mod named_director;
#[cfg(feature = "server")]
pub(crate) mod peer;
#[cfg(feature = "server")]
pub(crate) mod peers;
pub mod prelude;
#[cfg(feature = "server")]
pub mod private;
#[cfg(feature = "server")]
pub(crate) mod registry;
#[cfg(feature = "server")]
pub(crate) mod relative;
#[cfg(feature = "server")]
mod response;
#[cfg(feature = "server")]
pub(crate) mod states;
