//! Supervision of essential tasks: without one of them, a peer would accept messages and process
//! none.

use std::{future::Future, panic::AssertUnwindSafe};

use futures_util::FutureExt;

/// Runs an essential task and aborts the process if it panics, so that the system's supervisor
/// restarts it. Everything acknowledged is on disk, so nothing is lost.
pub(crate) async fn abort_on_panic(name: &'static str, future: impl Future<Output = ()>) {
    if AssertUnwindSafe(future).catch_unwind().await.is_err() {
        tracing::error!(
            target: "frestq::task",
            "{name} panicked; the process aborts, and nothing acknowledged is lost"
        );
        std::process::abort();
    }
}
