//! The application's own code around the life of its peer.

use std::{future::Future, panic::AssertUnwindSafe, pin::Pin, sync::Arc, time::Duration};

use futures_util::FutureExt;
use tokio::task::JoinSet;

use crate::{
    api::peer::Frestq,
    model::error::{Error, Result},
};

/// How long all hooks of the shutdown may take together.
const SHUTDOWN: Duration = Duration::from_secs(10);

/// The first wait before a background loop starts again, and the longest.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

type Running = Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>>;
type Once = Box<dyn FnOnce(Frestq) -> Running + Send>;

/// A loop of the application's own.
struct Background {
    name: String,
    run: Arc<dyn Fn(Frestq) -> Running + Send + Sync>,
}

/// What the application wants to run, and when.
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
            hook(peer.clone())
                .await
                .map_err(|error| Error::Hook(error.into()))?;
        }
        Ok(())
    }

    /// Starts the background loops; dropping the set cancels them.
    pub(super) fn spawn_background(&mut self, peer: &Frestq) -> JoinSet<()> {
        let mut loops = JoinSet::new();
        for background in std::mem::take(&mut self.background) {
            loops.spawn(keep_running(background, peer.clone()));
        }
        loops
    }

    /// Runs the hooks of the shutdown.
    pub(super) async fn shut_down(self, peer: &Frestq) {
        let all = async {
            for hook in self.on_shutdown {
                let run = AssertUnwindSafe(hook(peer.clone())).catch_unwind();
                match run.await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::error!("a shutdown hook failed: {error:#}"),
                    Err(_) => tracing::error!("a shutdown hook panicked"),
                }
            }
        };
        if tokio::time::timeout(SHUTDOWN, all).await.is_err() {
            tracing::error!(
                "the shutdown hooks took longer than {SHUTDOWN:?}; stopping without them"
            );
        }
    }
}

/// Runs a loop until it ends well.
async fn keep_running(background: Background, peer: Frestq) {
    let Background { name, run } = background;
    let mut wait = FIRST_WAIT;
    loop {
        let begun = tokio::time::Instant::now();
        // The call itself may panic, before there is a future.
        let ended = AssertUnwindSafe(async { run(peer.clone()).await }).catch_unwind();
        match ended.await {
            Ok(Ok(())) => {
                tracing::info!("background loop {name} has ended");
                return;
            }
            Ok(Err(error)) => tracing::error!("background loop {name} failed: {error:#}"),
            Err(_) => tracing::error!("background loop {name} panicked"),
        }
        if begun.elapsed() > LONGEST_WAIT {
            // It ran well for a while, so this is a new fault.
            wait = FIRST_WAIT;
        }
        tracing::info!("background loop {name} starts again in {wait:?}");
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}
