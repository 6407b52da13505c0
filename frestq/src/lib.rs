//! A federated REST task queue.

// Generated code names this crate `::frestq`, in its own unit tests too.
#[cfg(test)]
extern crate self as frestq;

#[doc(hidden)]
pub mod __private;
mod admission;
mod app;
mod cli;
mod clock;
mod commit;
mod compose;
mod config;
mod context;
mod engine;
mod error;
mod handler;
mod inbox;
mod logging;
mod macros;
mod message;
mod model;
mod outbox;
mod peer;
mod peers;
mod planting;
pub mod prelude;
mod registry;
mod relative;
mod retry;
mod signals;
mod store;
mod tending;
mod transaction;
mod wire;
mod worker;

pub use app::App;
pub use compose::{Action, Compose, External, Node, Parallel, Sequential, SimpleTask};
pub use config::{Config, DeliveryConfig, Limits, QueueConfig};
pub use context::Task;
pub use error::{Error, Result, TaskError};
pub use handler::{FromTask, IntoOutcome, Requirements};
pub use macros::{Action, message, task};
pub use message::Message;
pub use model::{
    Direction, Json, MessageId, MessageRecord, PeerUrl, Role, Status, TaskId, TaskKind, TaskRecord,
};
pub use peer::{ExternalTask, Frestq, TaskHandle};
pub use relative::{Relative, Relatives};
pub use transaction::{Param, Params, Transaction};
