//! Tasks without which a peer is a ghost: it would go on answering, and nothing would get done.

use std::{future::Future, panic::AssertUnwindSafe};

use futures_util::FutureExt;

/// Runs a future whose panic is a bug of ours. Everything is on disk, so the honest answer is to end
/// the process at once and leave it to its supervisor to start it again.
pub(crate) async fn vital(name: &'static str, future: impl Future<Output = ()>) {
    if AssertUnwindSafe(future).catch_unwind().await.is_err() {
        tracing::error!("{name} has panicked; this process ends, and nothing acknowledged is lost");
        std::process::abort();
    }
}
