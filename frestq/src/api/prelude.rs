//! The names that a file of handlers and views needs: `use frestq::prelude::*;`.

pub use axum::{
    extract::{Path, State},
    routing::{get, post},
};
pub use serde::{Deserialize, Serialize};

pub use crate::{
    Action, Director, External, Frestq, FromTask, Group, Handler, Message, Parallel, Recovery,
    Sequential, SimpleTask, Subtask, Synchronized, Task, TaskError,
};
