//! What a file of handlers and views needs: `use frestq::prelude::*;`.

pub use axum::{
    extract::{Path, State},
    routing::{get, post},
};
pub use serde::{Deserialize, Serialize};

pub use crate::{
    Action, External, Frestq, FromTask, Handler, Message, Parallel, Recovery, Sequential,
    SimpleTask, Task, TaskError,
};
