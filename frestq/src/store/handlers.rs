//! What a handler's own statements came to.

use std::time::Duration;

/// The end of a handler's statements.
#[derive(Debug, PartialEq)]
pub(crate) enum Ran {
    /// They are part of the transaction.
    Done,
    /// One of them failed, so none of them has happened. The transaction goes on.
    Failed(String),
    /// One of them failed, and the database has undone the whole transaction with it.
    Undone(String),
}

/// Why statements that took too long have failed.
pub(super) fn too_slow(limit: Duration) -> String {
    format!(
        "its statements took longer than {limit:?} (`transaction_timeout`), which holds up all other tasks"
    )
}
