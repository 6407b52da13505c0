//! Signals of the process: stop, and reload.

use std::convert::Infallible;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::app::Reread;
use crate::{
    model::{
        audit::Entry,
        error::{Error, Result},
    },
    operator::commands::OPERATOR,
    services::Services,
};

/// Reloads `[tls]` and `[peers]` at each SIGHUP. Running tasks and connections go on.
pub(super) async fn reload_at_each_hangup(
    services: &Services,
    reread: &Reread,
) -> Result<Infallible> {
    let mut hangup = listen(SignalKind::hangup())?;
    loop {
        hangup.recv().await;
        match reload(services, reread).await {
            Ok(()) => tracing::info!(
                target: "frestq::server",
                "SIGHUP: [tls] and [peers] are reloaded; other keys need a restart",
            ),
            Err(error) => {
                tracing::error!(
                    target: "frestq::server",
                    error = %error.with_causes(),
                    "SIGHUP: [tls] and [peers] are unchanged, since the reload failed",
                );
            }
        }
    }
}

async fn reload(services: &Services, reread: &Reread) -> Result<()> {
    services.registry.reload(&reread()?).await?;
    let entry = Entry::decided(services.clock.now(), OPERATOR, "reload", "").answered("done");
    let recorded = services.commits.submit_recorded(Vec::new(), entry);
    recorded.await.map(drop)
}

/// Returns on SIGTERM or Ctrl-C.
pub(super) async fn stop_signal() -> Result<()> {
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => tracing::info!(target: "frestq::server", "SIGTERM: stopping"),
        _ = interrupt.recv() => tracing::info!(target: "frestq::server", "Ctrl-C: stopping"),
    }
    Ok(())
}

fn listen(kind: SignalKind) -> Result<Signal> {
    signal(kind).map_err(|source| Error::Io {
        what: "can't wait for signals".into(),
        source,
    })
}
