//! A running peer, and how it stops.

use std::time::Duration;

use axum::Router;
use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::timeout,
};

use super::hooks::{Hooks, stop_background};
use crate::{
    api::peer::Frestq, maintenance::orphans, model::NodeId, outbox::Deliveries, worker::Worker,
};

/// How long the last deliveries may take.
const LAST_DELIVERIES: Duration = Duration::from_secs(5);

/// How long a stop waits for a database that may be away. The next start does what is left.
const LAST_WRITES: Duration = Duration::from_secs(5);

/// How long background loops may take to reach their next `await`.
const LAST_STEPS: Duration = Duration::from_secs(5);

/// How long all hooks of the shutdown may take together.
const SHUTDOWN_HOOKS: Duration = Duration::from_secs(10);

/// A peer that runs: it claims and runs tasks, and delivers messages, until it is stopped.
///
/// [`App::start`](crate::App::start) makes one that listens nowhere itself. Dropping it without
/// [`stop`](Self::stop) is like a crash: nothing acknowledged is lost, and the next start takes up
/// what was running.
pub struct RunningPeer {
    pub(super) peer: Frestq,
    pub(super) router: Router,
    pub(super) node: NodeId,
    pub(super) worker: Worker,
    pub(super) deliveries: Deliveries,
    /// Maintenance, and the answers to the command line.
    pub(super) upkeep: JoinSet<()>,
    pub(super) background: JoinSet<()>,
    pub(super) hooks: Hooks,
    /// The server, if the peer listens itself, and what tells it to accept nothing more.
    pub(super) server: Option<(JoinHandle<()>, watch::Sender<bool>)>,
}

impl RunningPeer {
    /// The handle by which the application sends tasks and reads results.
    pub fn handle(&self) -> &Frestq {
        &self.peer
    }

    /// The routes of RESTQP and the application's views, to serve or to nest in a router that is
    /// there already.
    ///
    /// Serve it with connection info, since the peer must know where a message comes from; without
    /// it, every message is answered with 500 and a line in the log. Nested under a path,
    /// `root_url` has to include that path.
    ///
    /// Without `[tls]` and `[peers]`, a message from an address that is not of the loopback is
    /// answered with 403. With them, the caller's server has no certificates to show, so senders
    /// are those that the configured proxy vouches for, in a header of one line. The limits of
    /// connections are those of the caller's server; `limits.connections` and the like do not hold
    /// there.
    ///
    /// ```no_run
    /// use std::net::SocketAddr;
    ///
    /// use frestq::App;
    ///
    /// # async fn example() -> anyhow::Result<()> {
    /// let app = App::new().configure(|c| {
    ///     c.root_url = Some("http://127.0.0.1:8000/office/api/queues".into());
    ///     c.database = Some("sqlite:office.sqlite".into());
    /// });
    /// app.create_database().await?;
    /// let office = app.start().await?;
    /// let router = axum::Router::new().nest("/office", office.router());
    /// let listener = tokio::net::TcpListener::bind("127.0.0.1:8000").await?;
    /// axum::serve(listener, router.into_make_service_with_connect_info::<SocketAddr>()).await?;
    /// office.stop().await;
    /// # Ok(()) }
    /// ```
    pub fn router(&self) -> Router {
        self.router.clone()
    }

    /// Stops in order: ends the background loops, lets running handlers end, releases the rest,
    /// runs the hooks of the shutdown, sends what is left to send, closes the database.
    ///
    /// A listener of its own accepts nothing more from the first moment on. A router that another
    /// server serves goes on answering, in the end with 503; stop that server after its peers, so
    /// that they can report to each other.
    ///
    /// It ends in any case: handlers have `shutdown_timeout`, background loops 5 s to reach an
    /// `await`, all hooks together 10 s, the last deliveries and the database 5 s each.
    pub async fn stop(self) {
        let Self {
            peer,
            router: _,
            node,
            mut worker,
            deliveries,
            mut upkeep,
            background,
            hooks,
            server,
        } = self;
        if let Some((_, stop)) = &server {
            // The server is gone only if it failed before.
            let _ = stop.send(true);
        }
        stop_background(background, LAST_STEPS).await;
        let services = &peer.services;
        let asked = timeout(LAST_WRITES, services.commits.stop_claiming());
        if asked.await.is_err() {
            tracing::warn!(
                target: "frestq::server",
                "the database is busy or away; stopping without it",
            );
        }
        drain(&peer, node, &mut worker, &mut upkeep).await;
        let threads = worker.threads();
        hooks.shut_down(&peer, threads, SHUTDOWN_HOOKS).await;
        deliveries.drain(LAST_DELIVERIES).await;
        if let Some((server, _)) = server {
            server.abort();
        }
        close(&peer, node).await;
        match services.trust.rejections.count() {
            0 => {}
            count => tracing::info!(
                target: "frestq::server",
                "rejected since start (no identity or no grant): {count}",
            ),
        }
        tracing::info!(target: "frestq::server", "stopped");
    }
}

/// Lets running handlers end, and releases those that take too long.
async fn drain(peer: &Frestq, node: NodeId, worker: &mut Worker, upkeep: &mut JoinSet<()>) {
    let running = worker.running();
    if running > 0 {
        tracing::info!(target: "frestq::server", "waiting for {running} running handlers");
    }
    let drained = worker.drain(peer.config().shutdown_timeout).await;
    upkeep.abort_all();
    if drained {
        return;
    }
    tracing::warn!(
        target: "frestq::server",
        "{} handlers still run; their tasks go back to their queues",
        worker.running(),
    );
    match timeout(LAST_WRITES, orphans::release(&peer.services, node)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::error!(
                target: "frestq::server",
                %error,
                "running tasks could not be released; the next start does it",
            );
        }
        Err(_) => {
            tracing::error!(
                target: "frestq::server",
                "running tasks could not be released in time; the next start does it",
            );
        }
    }
}

/// Ends the writer and signs this process off.
pub(super) async fn close(peer: &Frestq, node: NodeId) {
    let services = &peer.services;
    let closed = timeout(LAST_WRITES, async {
        services.commits.close().await;
        if let Err(error) = services.peers.write_contacts(&services.store).await {
            tracing::debug!(
                target: "frestq::server",
                %error,
                "the last contacts could not be written",
            );
        }
        if let Err(error) = services.store.leave(node).await {
            tracing::warn!(
                target: "frestq::server",
                %error,
                "this process could not be signed off",
            );
        }
        services.store.close().await;
    });
    if closed.await.is_err() {
        tracing::warn!(
            target: "frestq::server",
            "the database took too long to close; everything acknowledged is in it",
        );
    }
}

impl std::fmt::Debug for RunningPeer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunningPeer")
            .field("url", self.peer.url())
            .finish_non_exhaustive()
    }
}
