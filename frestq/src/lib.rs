//! A federated REST task queue.

// Generated code names this crate `::frestq`, in its own unit tests too.
#[cfg(test)]
extern crate self as frestq;

#[doc(hidden)]
pub mod __private;
mod app;
mod compose;
mod context;
mod error;
mod handler;
mod macros;
mod message;
mod model;
mod peer;
pub mod prelude;
mod registry;
mod transaction;

pub use app::App;
pub use compose::{Action, SimpleTask};
pub use context::Task;
pub use error::{Error, Result, TaskError};
pub use handler::{FromTask, IntoOutcome, Requirements};
pub use macros::{Action, message, task};
pub use message::Message;
pub use model::{
    Direction, Json, MessageId, MessageRecord, PeerUrl, Role, Status, TaskId, TaskKind, TaskRecord,
};
pub use peer::Frestq;
pub use transaction::{Param, Params, Transaction};
