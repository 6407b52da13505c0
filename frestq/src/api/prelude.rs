//! The names that a file of handlers and views needs: `use frestq::prelude::*;`.

#[cfg(feature = "server")]
pub use axum::{
    extract::{Path, State},
    routing::{get, post},
};
pub use serde::{Deserialize, Serialize};

pub use crate::{Action, External, Parallel, Sequential, SimpleTask, Synchronized, TaskError};
#[cfg(feature = "server")]
pub use crate::{Director, Frestq, FromTask, Group, Handler, Message, Recovery, Subtask, Task};
