//! Why a task failed: what travels to its sender.

use serde::{Deserialize, Serialize};
use serde_json::Value;

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
///
/// # Codes
///
/// A handler chooses its own codes, in words that are none of these. The peer that runs the task
/// is its receiver, the one that asked for it its sender; either may find that it has failed:
///
/// | constant | code | when | found by |
/// |---|---|---|---|
/// | [`FAILED`](Self::FAILED) | `failed` | the handler returned an `Err` that is no `TaskError`, or what it returned or added could not be stored; also an error of a peer that gave no code | receiver |
/// | [`PANICKED`](Self::PANICKED) | `panicked` | the handler panicked | receiver |
/// | [`INTERRUPTED`](Self::INTERRUPTED) | `interrupted` | the process ended during a run, and the action may not run (or run that often) again | receiver |
/// | [`TIMEOUT`](Self::TIMEOUT) | `timeout` | a run took longer than the `timeout` of its action | receiver |
/// | [`INVALID_INPUT`](Self::INVALID_INPUT) | `invalid input` | the input can't be read as the type that the handler takes | receiver |
/// | [`CHILDREN_FAILED`](Self::CHILDREN_FAILED) | `children failed` | tasks of a group failed that waits for all; each is in the [`data`](Self::data) | the peer that has the group |
/// | [`NOT_RESERVED`](Self::NOT_RESERVED) | `not reserved` | the tasks of a synchronized group could not all reserve at the same time, in as many rounds as there are | the peer that has the group |
/// | [`DENIED`](Self::DENIED) | `denied` | a person decided against an external task | the peer that has the task |
/// | [`CANCELLED`](Self::CANCELLED) | `cancelled` | an operator or the application cancelled it, or its tree ended without it | either |
/// | [`EXPIRED`](Self::EXPIRED) | `expired` | its expiration date came before its end | either |
/// | [`UNKNOWN_ACTION`](Self::UNKNOWN_ACTION) | `unknown action` | the receiver answered 404: it has no such action, or does not grant it; or its handler is gone since | either |
/// | [`REFUSED`](Self::REFUSED) | `refused` | the receiver answered the message with another final error | sender |
/// | [`UNDELIVERABLE`](Self::UNDELIVERABLE) | `undeliverable` | the message could not be delivered in the time that it had; or the sender did not accept the output or the reservation | either |
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
    /// A handler returned an `Err` without a code, or its result could not be stored.
    pub const FAILED: &'static str = "failed";
    /// A handler panicked.
    pub const PANICKED: &'static str = "panicked";
    /// A run was interrupted and may not be repeated.
    pub const INTERRUPTED: &'static str = "interrupted";
    /// A run took longer than its action allows.
    pub const TIMEOUT: &'static str = "timeout";
    /// The input is not what the handler takes.
    pub const INVALID_INPUT: &'static str = "invalid input";
    /// Tasks of a group failed that waits for all of them.
    pub const CHILDREN_FAILED: &'static str = "children failed";
    /// The tasks of a synchronized group could not all reserve.
    pub const NOT_RESERVED: &'static str = "not reserved";
    /// A person decided against it.
    pub const DENIED: &'static str = "denied";
    /// It was cancelled, or its tree ended without it.
    pub const CANCELLED: &'static str = "cancelled";
    /// Its expiration date came before its end.
    pub const EXPIRED: &'static str = "expired";
    /// The receiver does not have the action, or does not grant it.
    pub const UNKNOWN_ACTION: &'static str = "unknown action";
    /// The receiver refused the message.
    pub const REFUSED: &'static str = "refused";
    /// A message could not be delivered in time, or its content was not accepted.
    pub const UNDELIVERABLE: &'static str = "undeliverable";

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
