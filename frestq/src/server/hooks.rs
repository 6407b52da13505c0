//! Hooks and background loops of the application.

use std::{any::Any, future::Future, panic::AssertUnwindSafe, pin::Pin, sync::Arc, time::Duration};

use futures_util::FutureExt;
use tokio::{runtime::Handle, task::JoinSet, time::timeout};

use crate::{
    api::peer::Frestq,
    model::error::{Error, Result},
};

/// The first wait before a background loop is restarted, and the longest.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

type Running = Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>>;
type Once = Box<dyn FnOnce(Frestq) -> Running + Send>;

/// A background loop of the application.
struct Background {
    name: String,
    run: Arc<dyn Fn(Frestq) -> Running + Send + Sync>,
}

/// The hooks and background loops of an application.
#[derive(Default)]
pub(super) struct Hooks {
    on_start: Vec<Once>,
    on_shutdown: Vec<Once>,
    background: Vec<Background>,
}

impl Hooks {
    pub(super) fn add_on_start<F>(&mut self, run: impl FnOnce(Frestq) -> F + Send + 'static)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        self.on_start
            .push(Box::new(move |peer| Box::pin(run(peer))));
    }

    pub(super) fn add_on_shutdown<F>(&mut self, run: impl FnOnce(Frestq) -> F + Send + 'static)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        self.on_shutdown
            .push(Box::new(move |peer| Box::pin(run(peer))));
    }

    pub(super) fn add_background<F>(
        &mut self,
        name: String,
        run: impl Fn(Frestq) -> F + Send + Sync + 'static,
    ) where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        self.background.push(Background {
            name,
            run: Arc::new(move |peer| Box::pin(run(peer))),
        });
    }

    /// Runs the hooks of the start.
    pub(super) async fn start(&mut self, peer: &Frestq) -> Result<()> {
        for hook in std::mem::take(&mut self.on_start) {
            contained(async { hook(peer.clone()).await })
                .await
                .map_err(|error| Error::Hook(error.into()))?;
        }
        Ok(())
    }

    /// Starts the background loops on the threads of the handlers, where a loop that blocks its
    /// thread delays nothing of the peer. Dropping the set cancels them.
    pub(super) fn spawn_background(&mut self, peer: &Frestq, threads: &Handle) -> JoinSet<()> {
        let mut loops = JoinSet::new();
        for background in std::mem::take(&mut self.background) {
            loops.spawn_on(keep_running(background, peer.clone()), threads);
        }
        loops
    }

    /// Runs the hooks of the shutdown, also on the threads of the handlers: a hook that blocks
    /// its thread does not block the timeout.
    pub(super) async fn shut_down(self, peer: &Frestq, threads: &Handle, longest: Duration) {
        if self.on_shutdown.is_empty() {
            return;
        }
        let peer = peer.clone();
        let mut all = threads.spawn(async move {
            for hook in self.on_shutdown {
                let peer = peer.clone();
                if let Err(error) = contained(async { hook(peer).await }).await {
                    tracing::error!(target: "frestq::server", "a shutdown hook failed: {error:#}");
                }
            }
        });
        if timeout(longest, &mut all).await.is_err() {
            all.abort();
            tracing::error!(
                target: "frestq::server",
                "the shutdown hooks took longer than {longest:?}; stopping without them",
            );
        }
    }
}

/// Cancels the background loops, and waits until they have ended.
pub(super) async fn stop_background(mut loops: JoinSet<()>, longest: Duration) {
    if timeout(longest, loops.shutdown()).await.is_err() {
        tracing::error!(
            target: "frestq::server",
            "a background loop blocks its thread; stopping without it",
        );
    }
}

/// Runs the application's code. A panic becomes an error.
async fn contained(run: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    match AssertUnwindSafe(run).catch_unwind().await {
        Ok(outcome) => outcome,
        Err(panic) => Err(anyhow::anyhow!("it panicked: {}", panic_message(&*panic))),
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a text")
}

/// Runs a loop until it returns `Ok`.
async fn keep_running(Background { name, run }: Background, peer: Frestq) {
    let clock = peer.services.clock.clone();
    let mut wait = None;
    loop {
        let began = clock.now();
        // The call itself may panic, before there is a future.
        let Err(error) = contained(async { run(peer.clone()).await }).await else {
            tracing::info!(target: "frestq::server", "background loop {name} has ended");
            return;
        };
        let ended = clock.now();
        let ran = Duration::try_from(ended.duration_since(began)).unwrap_or_default();
        let next = wait_after(wait, ran);
        tracing::error!(
            target: "frestq::server",
            "background loop {name} failed and restarts in {next:?}: {error:#}",
        );
        clock.sleep_until(ended + next).await;
        wait = Some(next);
    }
}

/// How long a failed loop waits before it is restarted: twice as long as the last time, or the
/// first wait again if it ran for a while, since that is a new failure.
fn wait_after(last: Option<Duration>, ran: Duration) -> Duration {
    match last {
        Some(last) if ran <= LONGEST_WAIT => (last * 2).min(LONGEST_WAIT),
        _ => FIRST_WAIT,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn the_wait_of_a_failing_loop_doubles_up_to_a_minute() {
        let mut waits = Vec::new();
        for _ in 0..9 {
            waits.push(wait_after(waits.last().copied(), Duration::ZERO));
        }
        let seconds: Vec<_> = waits.iter().map(Duration::as_secs).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }

    #[test]
    fn a_loop_that_ran_for_more_than_a_minute_waits_the_first_wait() {
        let longer = LONGEST_WAIT + Duration::from_secs(1);
        assert_eq!(wait_after(Some(LONGEST_WAIT), longer), FIRST_WAIT);
    }

    #[tokio::test]
    async fn a_loop_that_blocks_its_thread_does_not_block_the_stop() {
        let threads = tokio::runtime::Runtime::new().unwrap();
        let (release, blocked) = mpsc::channel::<()>();
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let mut loops = JoinSet::new();
        loops.spawn_on(
            async move {
                let _ = begun.send(());
                let _ = blocked.recv();
            },
            threads.handle(),
        );
        has_begun.await.unwrap();
        stop_background(loops, Duration::from_millis(1)).await;
        drop(release);
        threads.shutdown_background();
    }
}
