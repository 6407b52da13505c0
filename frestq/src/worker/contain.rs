//! Contains faults of handlers: panics, and runs that take too long.

use std::{any::Any, panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt;

use crate::model::error::TaskError;

/// Waits for the outcome of a run. A panic or a timeout becomes a task error.
pub(super) async fn outcome<T>(
    run: impl Future<Output = Result<T, TaskError>>,
    timeout: Option<Duration>,
) -> Result<T, TaskError> {
    let caught = AssertUnwindSafe(run).catch_unwind();
    let ended = match timeout {
        Some(longest) => tokio::time::timeout(longest, caught).await.map_err(|_| {
            TaskError::new(
                TaskError::TIMEOUT,
                format!("the run took longer than {longest:?}, the time limit of its action"),
            )
        })?,
        None => caught.await,
    };
    ended.unwrap_or_else(|panic| Err(TaskError::new(TaskError::PANICKED, panic_message(&*panic))))
}

pub(super) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "the handler panicked".to_owned())
}
