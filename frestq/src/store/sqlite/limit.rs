//! How long a handler's statements may take.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use sqlx::SqliteConnection;

/// How many instructions of its virtual machine SQLite runs between two looks at the clock: some
/// tenths of a millisecond.
const INSTRUCTIONS: i32 = 10_000;

/// When the statements that run now have to be done.
#[derive(Clone, Default)]
pub(super) struct Limit(Arc<Mutex<Option<Instant>>>);

impl Limit {
    /// Has a connection interrupt statements that run past the limit.
    pub(super) async fn watch(&self, connection: &mut SqliteConnection) -> sqlx::Result<()> {
        let limit = self.clone();
        let mut handle = connection.lock_handle().await?;
        handle.set_progress_handler(INSTRUCTIONS, move || !limit.is_over());
        Ok(())
    }

    pub(super) fn begin(&self, longest: Duration) {
        self.set(Instant::now().checked_add(longest));
    }

    pub(super) fn end(&self) {
        self.set(None);
    }

    pub(super) fn is_over(&self) -> bool {
        let until = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() >= until)
    }

    fn set(&self, until: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }
}
