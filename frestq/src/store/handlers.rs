//! What a handler's own statements came to.

use std::{fmt, time::Duration};

/// The end of a handler's statements.
#[derive(Debug, PartialEq)]
pub(crate) enum Ran {
    /// They are part of the transaction.
    Done,
    /// One of them failed, so none of them has happened. The transaction goes on.
    Failed(StatementFailure),
    /// One of them failed, and the database has undone the whole transaction with it.
    Undone(StatementFailure),
}

/// Why the statements of a handler failed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum StatementFailure {
    /// They took longer than `transaction_timeout`.
    TooSlow(String),
    /// The database refused one of them, in its own words.
    Refused(String),
}

impl StatementFailure {
    /// What the sender of the task may know of it: no words of the database.
    pub(crate) fn public(&self) -> &str {
        match self {
            Self::TooSlow(why) => why,
            Self::Refused(_) => {
                "the database refused a statement; the log of the peer that ran it says why"
            }
        }
    }
}

impl fmt::Display for StatementFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooSlow(why) | Self::Refused(why) => f.write_str(why),
        }
    }
}

/// Why statements that took too long have failed.
pub(super) fn too_slow(limit: Duration) -> StatementFailure {
    StatementFailure::TooSlow(format!(
        "its statements took longer than {limit:?} (`transaction_timeout`), which holds up all other tasks"
    ))
}
