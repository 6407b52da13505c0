//! What the drivers' errors mean.

use crate::model::error::{DatabaseError, Error};

#[doc(hidden)]
impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(DatabaseError::new(error))
    }
}

/// The driver's error that this one was made from.
pub(super) fn driver_error(error: &Error) -> Option<&sqlx::Error> {
    match error {
        Error::Database(error) => error.cause(),
        _ => None,
    }
}

/// The database's own answer, if it gave one.
pub(super) fn database_answer(error: &Error) -> Option<&dyn sqlx::error::DatabaseError> {
    driver_error(error)?.as_database_error()
}

/// Whether a transaction lost to another one and may succeed when all of it is done again, from
/// loading on: two processes took the same message or task, or wanted each other's rows.
///
/// A lost connection is not among these: waiting for it is no race.
pub(crate) fn is_transient(error: &Error) -> bool {
    let Some(answer) = database_answer(error) else {
        return false;
    };
    match answer.code().as_deref() {
        // Postgres: serialization failure, deadlock.
        Some("40001" | "40P01") => true,
        // Postgres: the row is there by now. SQLite has one writer, so there it is no race.
        Some("23505") => matches!(answer.table(), Some("inbox" | "tasks" | "audit")),
        // SQLite: another process holds the file, busy or with a newer snapshot.
        Some("5" | "517") => true,
        _ => false,
    }
}

/// Whether a row could not be stored because there is one of that key: then nothing is committed.
pub(crate) fn was_there(error: &Error) -> bool {
    database_answer(error).is_some_and(|answer| answer.is_unique_violation())
}
