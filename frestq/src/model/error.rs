//! What a call into frestq can fail with.

use std::fmt;

use super::{InvalidPeerUrl, PeerUrl, TaskId};

pub use super::task_error::TaskError;

/// The result of a call into frestq.
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// What a call into frestq can fail with.
///
/// Each text says what happened, to what, and what to do next. What caused it is not in the text
/// but in [`source`](std::error::Error::source); `{:#}` of an [`anyhow::Error`] prints both.
///
/// A view may return it: the caller gets a status and one sentence, and nothing of a database, a
/// file or this peer's configuration; those are logged.
///
/// | variants | status |
/// |---|---|
/// | [`PeerUrl`](Self::PeerUrl), [`Invalid`](Self::Invalid) | 400 |
/// | [`UnknownPeer`](Self::UnknownPeer) | 403 |
/// | [`UnknownTask`](Self::UnknownTask) | 404 |
/// | [`Pruned`](Self::Pruned) | 410 |
/// | [`Database`](Self::Database), [`Overloaded`](Self::Overloaded), [`Stopping`](Self::Stopping) | 503 |
/// | all others | 500 |
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
    /// The database has no tables of frestq yet, or those of another version.
    #[error("database {database}: {why}")]
    Schema {
        /// Its address, without secrets.
        database: String,
        /// What is wrong, and the command that mends it.
        why: String,
    },
    /// The database answered with an error, or not at all.
    #[error("the database failed, so nothing was changed; try again when it works")]
    Database(#[source] DatabaseError),
    /// The database holds something that this version can't have written.
    #[error(
        "the database can't be read: {what}: {why}; run the newer version if one wrote it, \
         else restore a backup, or report it as a bug of frestq"
    )]
    Corrupt {
        /// The table and the column.
        what: String,
        /// What is wrong with the value.
        why: String,
    },
    /// A value could not be written as JSON, or JSON not be read as the type asked for.
    #[error("a value can't be written as JSON, or JSON can't be read as the type asked for")]
    Json(#[source] JsonError),
    /// An address can't be listened on.
    #[error(
        "can't listen on {bind}; stop what listens there, or set `bind` or FRESTQ_BIND to another \
         address"
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
    #[error("task {id} ended in error")]
    Task {
        /// The task.
        id: TaskId,
        /// What it failed with.
        #[source]
        error: Box<TaskError>,
    },
    /// What was asked for can't be done; the text says why.
    #[error("{0}")]
    Invalid(String),
    /// A hook of the application's own failed at the start.
    #[error("the application's on_start failed")]
    Hook(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The operating system refused something.
    #[error("{what}")]
    Io {
        /// What was attempted, on what.
        what: String,
        /// The system's answer.
        source: std::io::Error,
    },
}

impl Error {
    /// The error with its causes, in one line: for the log, and for operators.
    pub(crate) fn with_causes(&self) -> WithCauses<'_> {
        WithCauses(self)
    }

    /// The sentence about it that anybody may read; `None` if it is about the inside of this peer.
    pub(crate) fn public_text(&self) -> Option<String> {
        match self {
            Self::PeerUrl(_)
            | Self::Overloaded
            | Self::Stopping
            | Self::UnknownTask(_)
            | Self::Pruned { .. }
            | Self::NoRelative { .. }
            | Self::Task { .. }
            | Self::Json(_)
            | Self::Invalid(_) => Some(self.to_string()),
            Self::UnknownPeer(url) => Some(format!("{url} is no registered peer")),
            Self::Database(_) => {
                Some("the database of this peer does not work now; try again later".to_owned())
            }
            Self::Config(_)
            | Self::Handlers(_)
            | Self::Schema { .. }
            | Self::Corrupt { .. }
            | Self::Bind { .. }
            | Self::Impatient
            | Self::Hook(_)
            | Self::Io { .. } => None,
        }
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::Json(JsonError(error))
    }
}

/// What the database, or its driver, said. Its text is meant for operators.
#[derive(Debug)]
pub struct DatabaseError(Cause);

impl DatabaseError {
    pub(crate) fn new(cause: impl Into<Cause>) -> Self {
        Self(cause.into())
    }

    /// What it was made from, if that is a `T`.
    pub(crate) fn cause<T: std::error::Error + 'static>(&self) -> Option<&T> {
        self.0.downcast_ref()
    }
}

impl fmt::Display for DatabaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

// Without a source: the driver's text has its cause in it already.
impl std::error::Error for DatabaseError {}

/// What is wrong with a value, or with JSON, and where.
#[derive(Debug)]
pub struct JsonError(serde_json::Error);

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for JsonError {}

/// An error and its causes, each once.
pub(crate) struct WithCauses<'a>(&'a Error);

impl fmt::Display for WithCauses<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)?;
        let mut cause = std::error::Error::source(self.0);
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_a_source_and_not_in_the_text() {
        let source = || std::io::Error::other("the cause");
        let task = TaskError::new("code", "the cause");
        let errors = [
            Error::Database(DatabaseError::new(source())),
            serde_json::from_str::<u8>("\"the cause\"")
                .unwrap_err()
                .into(),
            Error::Bind {
                bind: "[::]:1".into(),
                source: source(),
            },
            Error::Task {
                id: "a".into(),
                error: Box::new(task),
            },
            Error::Hook(source().into()),
            Error::Io {
                what: "the file \"a\" can't be read".into(),
                source: source(),
            },
        ];
        for error in errors {
            assert!(!error.to_string().contains("the cause"), "{error}");
            let all = error.with_causes().to_string();
            assert_eq!(all.matches("the cause").count(), 1, "{all}");
        }
    }
}
