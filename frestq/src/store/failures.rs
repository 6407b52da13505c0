//! What the database's errors mean.

use crate::model::error::Error;

/// Whether a transaction lost to another one and may succeed when all of it is done again, from
/// loading on: two processes took the same message or task, or wanted each other's rows.
///
/// A lost connection is not among these: waiting for it is no race.
pub(crate) fn is_transient(error: &Error) -> bool {
    let Error::Database(sqlx::Error::Database(error)) = error else {
        return false;
    };
    match error.code().as_deref() {
        // Postgres: serialization failure, deadlock.
        Some("40001" | "40P01") => true,
        // Postgres: the row is there by now. SQLite has one writer, so there it is no race.
        Some("23505") => matches!(error.table(), Some("inbox" | "tasks" | "audit")),
        // SQLite: another process holds the file, busy or with a newer snapshot.
        Some("5" | "517") => true,
        _ => false,
    }
}

/// Whether a row could not be stored because there is one of that key: then nothing is committed.
pub(crate) fn was_there(error: &Error) -> bool {
    let Error::Database(sqlx::Error::Database(error)) = error else {
        return false;
    };
    error.is_unique_violation()
}
