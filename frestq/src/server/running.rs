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

/// How long a stop waits for a database that may be unreachable. The next start does what
/// remains.
const LAST_WRITES: Duration = Duration::from_secs(5);

/// How long background loops may take to reach their next `await`.
const LAST_STEPS: Duration = Duration::from_secs(5);

/// How long all hooks of the shutdown may take together.
const SHUTDOWN_HOOKS: Duration = Duration::from_secs(10);

/// A running peer: it claims and runs tasks, and delivers messages, until it is stopped.
///
/// [`App::start`](crate::App::start) returns one without a listener. Dropping it without
/// [`stop`](Self::stop) is like a crash: nothing acknowledged is lost, and the next start takes
/// over the running tasks.
pub struct RunningPeer {
    pub(super) peer: Frestq,
    pub(super) router: Router,
    pub(super) node: NodeId,
    pub(super) worker: Worker,
    pub(super) deliveries: Deliveries,
    /// Maintenance, and the requests of the command line.
    pub(super) upkeep: JoinSet<()>,
    pub(super) background: JoinSet<()>,
    pub(super) hooks: Hooks,
    /// The server, if the peer has a listener, and the sender that tells it to accept no more
    /// connections.
    pub(super) server: Option<(JoinHandle<()>, watch::Sender<bool>)>,
}

impl RunningPeer {
    /// The handle with which the application sends tasks and reads results.
    pub fn handle(&self) -> &Frestq {
        &self.peer
    }

    /// The routes of RESTQP and the views of the application, to serve or to nest in an existing
    /// router.
    ///
    /// Serve it with connection info, since the peer must know the address of each sender;
    /// without it every message is answered with 500, and an error is logged. If it is nested
    /// under a path, `root_url` must include that path.
    ///
    /// Without `[tls]` and `[peers]`, messages from other addresses than the loopback are
    /// answered with 403. With them, the caller's server has no certificates to show, so senders
    /// are authenticated by the configured proxy, in a header of one line. The caller's server
    /// limits connections itself: `limits.connections` and similar keys have no effect.
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

    /// Stops the peer in order: it cancels the background loops, waits for running handlers,
    /// releases the rest, runs the shutdown hooks, delivers what remains, and closes the
    /// database.
    ///
    /// Its own listener accepts no connections from the start of this call. A router that another
    /// server serves keeps answering, in the end with 503; stop that server after its peers, so
    /// that they can report to each other.
    ///
    /// The time is limited: `shutdown_timeout` for handlers, 5 s for background loops, 10 s for
    /// all hooks together, and 5 s each for the last deliveries and the database.
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
            // An error means that the server has failed before.
            let _ = stop.send(true);
        }
        stop_background(background, LAST_STEPS).await;
        let services = &peer.services;
        let stopped = timeout(LAST_WRITES, services.commits.stop_claiming());
        if stopped.await.is_err() {
            tracing::warn!(
                target: "frestq::server",
                "the database is busy or unreachable; stopping without it",
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

/// Waits for running handlers, and releases the tasks of those that take too long.
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
        "{} handlers still run; their tasks are released to their queues",
        worker.running(),
    );
    match timeout(LAST_WRITES, orphans::release(&peer.services, node)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::error!(
                target: "frestq::server",
                error = %error.with_causes(),
                "running tasks could not be released; the next start releases them",
            );
        }
        Err(_) => {
            tracing::error!(
                target: "frestq::server",
                "running tasks could not be released in time; the next start releases them",
            );
        }
    }
}

/// Closes the committer and the database, and removes this process from its nodes.
pub(super) async fn close(peer: &Frestq, node: NodeId) {
    let services = &peer.services;
    let closed = timeout(LAST_WRITES, async {
        services.commits.close().await;
        if let Err(error) = services.peers.write_contacts(&services.store).await {
            tracing::debug!(
                target: "frestq::server",
                error = %error.with_causes(),
                "the last contact times could not be written",
            );
        }
        if let Err(error) = services.store.leave(node).await {
            tracing::warn!(
                target: "frestq::server",
                error = %error.with_causes(),
                "this process could not be removed from the nodes of the database",
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
