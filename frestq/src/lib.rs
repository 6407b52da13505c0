//! A federated REST task queue.

#[doc(hidden)]
pub mod __private;
mod app;
mod cli;
mod clock;
mod compose;
mod config;
mod context;
mod engine;
mod error;
mod handler;
mod logging;
mod model;
mod peer;
pub mod prelude;
mod registry;
mod retry;
mod store;
mod transaction;

pub use app::App;
pub use compose::{Action, SimpleTask};
pub use config::{Config, DeliveryConfig, Limits, QueueConfig};
pub use context::Task;
pub use error::{Error, Result, TaskError};
pub use handler::{FromTask, IntoOutcome, Requirements};
pub use model::{
    Direction, Json, MessageId, MessageRecord, PeerUrl, Role, Status, TaskId, TaskKind, TaskRecord,
};
pub use peer::Frestq;
pub use transaction::{Param, Params, Transaction};
