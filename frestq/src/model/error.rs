//! What can go wrong: [`Error`] for whoever calls frestq, [`TaskError`] for what travels with a task.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{InvalidPeerUrl, PeerUrl, TaskId};

/// The result of a call into frestq.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a call into frestq can fail with. Each message says what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A root queues URL is not one.
    #[error(transparent)]
    PeerUrl(#[from] InvalidPeerUrl),
    /// The configuration can't be used.
    #[error("configuration: {0}")]
    Config(String),
    /// The registered handlers can't be served; every fault is listed.
    #[error("the handlers of this peer can't be served:\n{}", .0.join("\n"))]
    Handlers(Vec<String>),
    /// The database has no tables of ours yet, or those of another version.
    #[error("database {database}: {why}")]
    Schema {
        /// Its address, without secrets.
        database: String,
        /// What is wrong, and the command that mends it.
        why: String,
    },
    /// The database answered with an error.
    #[cfg(feature = "server")]
    #[error("database: {0}; what was asked has not happened")]
    Database(#[from] sqlx::Error),
    /// The database could not take a change.
    #[error("database: {0}; what was asked has not happened")]
    Storage(String),
    /// A payload could not be written as JSON, or read as the type asked for.
    #[error("JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// An address can't be listened on.
    #[error(
        "can't listen on {bind}: {source}; is another peer running there? Set `bind` or FRESTQ_BIND to another address"
    )]
    Bind {
        /// The address.
        bind: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Too much is waiting: nothing was stored, try again later.
    #[error("this peer is overloaded: nothing was stored, try again later")]
    Overloaded,
    /// The peer is stopping: nothing was stored.
    #[error("this peer is stopping: nothing was stored, try again when it is back")]
    Stopping,
    /// A second signal came while the first one was obeyed.
    #[error("stopped at the second signal; whatever was running is taken up at the next start")]
    Impatient,
    /// No task of that id is known here.
    #[error("no task {0} here")]
    UnknownTask(TaskId),
    /// The task has ended long ago, and only that is left of it.
    #[error(
        "task {id} was pruned at {at}: its output is gone, and nothing can be done with it any more"
    )]
    Pruned {
        /// The task.
        id: TaskId,
        /// Since when.
        at: jiff::Timestamp,
    },
    /// A task has no such relative.
    #[error("task {id} has no {wanted}; look at its tree with --show-task")]
    NoRelative {
        /// The task.
        id: TaskId,
        /// Parent, previous, next, ...
        wanted: &'static str,
    },
    /// The peer may not be written to.
    #[error(
        "{0} is no registered peer; add it to [peers] in the configuration, or with --add-peer"
    )]
    UnknownPeer(PeerUrl),
    /// The task ended without an output.
    #[error("task {id} ended in error: {error}")]
    Task {
        /// The task.
        id: TaskId,
        /// What it failed with.
        error: Box<TaskError>,
    },
    /// A value is outside what the protocol allows.
    #[error("{0}")]
    Invalid(String),
    /// A hook of the application's own failed at the start.
    #[error("the application's on_start failed")]
    Hook(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Anything the operating system refused.
    #[error("{what}: {source}")]
    Io {
        /// What was attempted, on what.
        what: String,
        /// The system's answer.
        source: std::io::Error,
    },
}

/// Why a task failed. It travels to the task's sender as the output of the `error` update.
///
/// Return one from a handler to say more than a text:
///
/// ```
/// use frestq::TaskError;
///
/// fn check(votes: u64) -> Result<u64, TaskError> {
///     if votes == 0 {
///         return Err(TaskError::new("no_votes", "the ballot box is empty").with_data(&votes));
///     }
///     Ok(votes)
/// }
/// assert_eq!(check(0).unwrap_err().code(), "no_votes");
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskError {
    #[serde(rename = "error")]
    code: String,
    #[serde(default)]
    message: String,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    data: Value,
}

impl TaskError {
    /// A handler returned an `Err`.
    pub(crate) const FAILED: &'static str = "failed";
    /// A handler panicked.
    pub(crate) const PANICKED: &'static str = "panicked";
    /// A run was cut off and may not be repeated.
    pub(crate) const INTERRUPTED: &'static str = "interrupted";
    /// A run took longer than its action allows.
    pub(crate) const TIMEOUT: &'static str = "timeout";
    /// The receiver doesn't know the action.
    pub(crate) const UNKNOWN_ACTION: &'static str = "unknown action";
    /// The receiver refused the message.
    pub(crate) const REFUSED: &'static str = "refused";
    /// The message could not be delivered in time.
    pub(crate) const UNDELIVERABLE: &'static str = "undeliverable";
    /// The tasks of a synchronized group could not all reserve.
    pub(crate) const NOT_RESERVED: &'static str = "not reserved";
    /// Its tree ended without it, or somebody called it off.
    pub(crate) const CANCELLED: &'static str = "cancelled";
    /// A person decided against it.
    pub(crate) const DENIED: &'static str = "denied";
    /// Tasks of a group failed that waited for all of them.
    pub(crate) const CHILDREN_FAILED: &'static str = "children failed";
    /// The input is not what the handler takes.
    pub(crate) const INVALID_INPUT: &'static str = "invalid input";

    /// An error with a short code for programs and a message for people.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            message: message.into(),
            data: Value::Null,
        }
    }

    /// Adds any data. A value that can't be written as JSON is left out.
    #[must_use]
    pub fn with_data<T: Serialize + ?Sized>(mut self, data: &T) -> Self {
        self.data = serde_json::to_value(data).unwrap_or(Value::Null);
        self
    }

    /// The short code.
    pub fn code(&self) -> &str {
        &self.code
    }

    /// The message for people.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The data that came with it, `null` if none did.
    pub fn data(&self) -> &Value {
        &self.data
    }

    /// Reads the output of a failed task, whatever peer wrote it.
    pub(crate) fn from_output(output: &serde_json::value::RawValue) -> Self {
        serde_json::from_str(output.get()).unwrap_or_else(|_| {
            let data: Value = serde_json::from_str(output.get()).unwrap_or(Value::Null);
            let message = match &data {
                Value::String(text) => text.clone(),
                _ => "the peer gave no reason".to_owned(),
            };
            Self {
                code: Self::FAILED.into(),
                message,
                data,
            }
        })
    }

    /// The same error, which says of another one that came up while it was handled.
    pub(crate) fn and_then(mut self, other: Self) -> Self {
        if other != self {
            let Self { code, message, .. } = other;
            self.message = format!("{}; then its handle_error: {code}: {message}", self.message);
        }
        self
    }

    /// What a handler's error becomes: itself if it is a `TaskError`, else `failed` with its chain
    /// of causes as the message.
    #[cfg(feature = "server")]
    pub(crate) fn from_handler(error: anyhow::Error) -> Self {
        match error.downcast::<TaskError>() {
            Ok(error) => error,
            Err(error) => Self::new(Self::FAILED, format!("{error:#}")),
        }
    }
}

impl std::fmt::Display for TaskError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.message.is_empty() {
            f.write_str(&self.code)
        } else {
            write!(f, "{}: {}", self.code, self.message)
        }
    }
}

impl std::error::Error for TaskError {}

/// A view that fails with an error of ours answers with a status and a sentence.
#[cfg(feature = "server")]
impl axum::response::IntoResponse for Error {
    fn into_response(self) -> axum::response::Response {
        use axum::http::StatusCode;
        let status = match &self {
            Error::PeerUrl(_) | Error::Json(_) | Error::Invalid(_) => StatusCode::BAD_REQUEST,
            Error::UnknownTask(_) => StatusCode::NOT_FOUND,
            Error::Pruned { .. } => StatusCode::GONE,
            Error::UnknownPeer(_) => StatusCode::FORBIDDEN,
            Error::Overloaded | Error::Stopping | Error::Storage(_) | Error::Database(_) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, format!("{self}\n")).into_response()
    }
}
