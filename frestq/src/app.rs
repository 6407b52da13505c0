//! Wiring: from a configuration to a serving peer.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{Router, routing::MethodRouter};
use tokio::{net::TcpListener, sync::watch, time::timeout};

use crate::{
    admission::Admission,
    audit::Entry,
    clock::Clock,
    commit::{Chain, Committer, Doubt, Recent, Slots},
    config::Config,
    decisions::OPERATOR,
    error::{Error, Result},
    handler::States,
    membership::Membership,
    model::NodeId,
    outbox::{Deliveries, Outbox},
    peer::{Frestq, Inner},
    registry::Registry,
    signals::Signals,
    store::{Purpose, Store},
    tending,
    trust::{Grant, Trust},
    wire::{
        caller::Crowds,
        client::Client,
        listen::{Plain, Tls},
        proxy::Proxied,
        quota::Quota,
        routes,
        server::{Bounds, IDLE, serve},
    },
    worker::{self, Worker},
};

/// What `frestq::main!` lets a peer add before it starts.
pub struct App {
    pub(crate) router: Router<Frestq>,
    pub(crate) states: States,
    pub(crate) config: Config,
    pub(crate) schema: Vec<&'static str>,
    pub(crate) clock: Clock,
    /// How the configuration is read again while the peer serves.
    pub(crate) reread: Option<Reread>,
}

/// Reads the configuration from all its layers.
pub(crate) type Reread = Box<dyn Fn() -> Result<Config> + Send + Sync>;

impl App {
    pub(crate) fn new() -> Self {
        Self {
            router: Router::new(),
            states: States::default(),
            config: Config::default(),
            schema: Vec::new(),
            clock: Clock::default(),
            reread: None,
        }
    }

    /// An axum view.
    #[must_use]
    pub fn route(mut self, path: &str, view: MethodRouter<Frestq>) -> Self {
        self.router = self.router.route(path, view);
        self
    }

    /// A value for handlers that take `State<T>`.
    #[must_use]
    pub fn state<T: Clone + Send + Sync + 'static>(mut self, value: T) -> Self {
        self.states.insert(value);
        self
    }

    /// Sets this peer's own defaults, which file, environment and flags override.
    #[must_use]
    pub fn configure(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    /// A statement that makes tables of the application's own, run by `--createdb` after ours; it
    /// must be safe to repeat: `CREATE TABLE IF NOT EXISTS ...`.
    #[must_use]
    pub fn schema(mut self, statement: &'static str) -> Self {
        self.schema.push(statement);
        self
    }

    /// Serves until SIGTERM or Ctrl-C.
    pub(crate) async fn serve(mut self) -> Result<()> {
        let reread = self.reread.take();
        let running = self.start().await?;
        let peer = running.peer.clone();
        let reloading = async {
            match reread {
                Some(reread) if peer.0.trust.standing().is_some() => {
                    reload_at_each_hangup(&peer, &reread).await
                }
                // With nothing to read again, a closed terminal ends the peer as it ends other programs.
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            stopped = stop_signal() => stopped?,
            failed = reloading => match failed? {},
        }
        tokio::select! {
            () = running.stop() => Ok(()),
            again = stop_signal() => again.and(Err(Error::Impatient)),
        }
    }

    /// Starts everything and returns once the peer accepts messages.
    pub(crate) async fn start(self) -> Result<Running> {
        let Self {
            router,
            states,
            config,
            clock,
            ..
        } = self;
        config.validate()?;
        let registry = Registry::collect();
        registry.check(&states, config.queues.keys().map(String::as_str))?;
        let url = config.root_url()?;
        let trust = Arc::new(Trust::load(&config)?);
        let store = Arc::new(Store::open(&config.database(), Purpose::Serve).await?);
        let bind = config.bind();
        let listen = |source| Error::Bind {
            bind: bind.to_string(),
            source,
        };
        let listener = TcpListener::bind(bind).await.map_err(listen)?;
        store.set_own_url(&url).await?;
        let node = store.join(&config.node_name(), clock.now()).await?;
        let (signals, wakes) = Signals::new();
        let signals = Arc::new(signals);
        let membership =
            Membership::new(&store, trust.clone(), url.clone(), signals.clone()).await?;
        membership.begin().await?;
        let peers = membership.peers.clone();
        let admission = Arc::new(Admission::new(config.limits.clone()));
        admission.reset(store.open_tasks().await?);
        let (claims, claimed) = tokio::sync::mpsc::unbounded_channel();
        let commits = Committer {
            store: store.clone(),
            writer: store.writer().await?,
            node,
            url: url.clone(),
            clock: clock.clone(),
            peers: peers.clone(),
            signals: signals.clone(),
            admission: admission.clone(),
            slots: Slots::new(
                registry
                    .queues()
                    .map(|queue| (queue, config.concurrency(queue))),
            ),
            claimed: claims,
            reservation_timeout: config.reservation_timeout,
            give_up_after: config.delivery.give_up_after,
            log_payloads: config.log_payloads,
            doubt: Doubt::default(),
            pruning: None,
            audit: config.audits().then(|| Chain::new(config.node_name())),
            look_at_held: false,
            recent: Recent::new(store.is_exclusive()),
        }
        .start();
        let outbox = Outbox {
            store: store.clone(),
            peers: peers.clone(),
            commits: commits.clone(),
            client: Client::new(&config.delivery, trust.clone())?,
            config: config.delivery.clone(),
            clock: clock.clone(),
            own_url: url.clone(),
            node,
            batch_bytes: config.body_limit / 2,
        };
        let inner = Inner {
            proxy: config.proxy().map_err(Error::Config)?,
            requests: Quota::new(config.limits.requests_per_peer),
            url,
            config,
            states,
            registry,
            store,
            peers,
            trust,
            membership: Arc::new(membership),
            commits,
            signals,
            admission,
            clock,
        };
        let peer = Frestq(Arc::new(inner));
        log_handlers(&peer);
        warn_of_idle_grants(&peer);
        worker::take_over_orphans(&peer).await?;
        let worker = Worker::start(peer.clone(), peer.config().handler_threads, claimed)?;
        let deliveries = Deliveries::start(outbox, wakes).await?;
        let tending = tending::start(peer.clone(), node);
        let (stop, stopping) = watch::channel(false);
        let router = router
            .merge(routes::routes(peer.config().body_limit))
            .with_state(peer.clone());
        let own = match peer.0.trust.standing() {
            Some(standing) => standing.identity.fingerprint(),
            None => None,
        };
        let bounds = Bounds {
            connections: peer.config().limits.connections,
            idle: IDLE,
            wait: own.is_none(),
        };
        let crowds = Crowds::new(&peer.config().limits);
        let server = match (own, &peer.0.proxy) {
            (_, Some(proxy)) => {
                let listener = Proxied::new(listener, proxy, crowds);
                tokio::spawn(serve(listener, router, bounds, stopping))
            }
            (Some(_), None) => {
                let listener = Tls::new(listener, peer.0.trust.clone(), crowds);
                tokio::spawn(serve(listener, router, bounds, stopping))
            }
            (None, None) => tokio::spawn(serve(Plain(listener), router, bounds, stopping)),
        };
        if let Some(proxy) = &peer.0.proxy {
            tracing::info!("senders are who the proxy at {} says", proxy.address);
            if proxy.address.is_loopback() {
                tracing::warn!(
                    "every process of this machine can connect from {} and say that it is any peer; is none of them a stranger's?",
                    proxy.address
                );
            }
        }
        match own {
            Some(own) => tracing::info!("serving {} on {bind} as {own}", peer.url()),
            None => tracing::info!("serving {} on {bind}", peer.url()),
        }
        Ok(Running {
            peer,
            node,
            worker,
            deliveries,
            tending,
            stop,
            server,
        })
    }
}

fn log_handlers(peer: &Frestq) {
    let handlers: Vec<_> = peer
        .0
        .registry
        .iter()
        .map(|h| format!("{}/{}", h.queue, h.action))
        .collect();
    tracing::info!(
        "handlers: {}",
        if handlers.is_empty() {
            "none".to_owned()
        } else {
            handlers.join(", ")
        }
    );
}

/// A grant for what no handler serves is most likely misspelled.
fn warn_of_idle_grants(peer: &Frestq) {
    let Some(standing) = peer.0.trust.standing() else {
        return;
    };
    for member in standing.members.all() {
        let idle = |grant: &&Grant| {
            let mut open = peer.0.registry.iter().filter(|h| !h.options.local);
            !open.any(|handler| grant.covers(handler.queue, handler.action))
        };
        for grant in member.grants.iter().filter(idle) {
            tracing::warn!("peers.{}.allow: no handler serves {grant}", member.name);
        }
    }
}

/// Reads certificates and peers again whenever SIGHUP comes; what runs goes on.
async fn reload_at_each_hangup(peer: &Frestq, reread: &Reread) -> Result<Infallible> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut hangup = signal(SignalKind::hangup()).map_err(|source| Error::Io {
        what: "waiting for SIGHUP".into(),
        source,
    })?;
    loop {
        hangup.recv().await;
        let reloaded = async {
            peer.0.membership.reload(&reread()?).await?;
            let entry = Entry::decided(peer.0.clock.now(), OPERATOR, "reload", "").answered("done");
            let recorded = peer.0.commits.submit_recorded(Vec::new(), entry);
            recorded.await.map(drop)
        };
        match reloaded.await {
            Ok(()) => tracing::info!(
                "SIGHUP: [tls] and [peers] are read again; other keys need a new start"
            ),
            Err(error) => {
                tracing::error!(%error, "SIGHUP: [tls] and [peers] stay as they were");
            }
        }
    }
}

/// Returns on SIGTERM or Ctrl-C.
async fn stop_signal() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let io = |source| Error::Io {
        what: "waiting for signals".into(),
        source,
    };
    let mut terminate = signal(SignalKind::terminate()).map_err(io)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(io)?;
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
        _ = interrupt.recv() => tracing::info!("Ctrl-C: stopping"),
    }
    Ok(())
}

/// A peer that serves.
pub(crate) struct Running {
    pub(crate) peer: Frestq,
    node: NodeId,
    worker: Worker,
    deliveries: Deliveries,
    tending: tokio::task::JoinHandle<()>,
    stop: watch::Sender<bool>,
    server: tokio::task::JoinHandle<()>,
}

impl Running {
    /// Accepts nothing more, lets what runs end, releases the rest, closes.
    pub(crate) async fn stop(self) {
        const LAST_DELIVERIES: Duration = Duration::from_secs(5);
        /// What is waited for a database that may be away; the next start does what is left.
        const LAST_WRITES: Duration = Duration::from_secs(5);
        let Self {
            peer,
            node,
            mut worker,
            deliveries,
            tending,
            stop,
            server,
        } = self;
        // The server is gone only if it failed before.
        let _ = stop.send(true);
        let asked = timeout(LAST_WRITES, peer.0.commits.stop_claiming());
        if asked.await.is_err() {
            tracing::warn!("the database is busy or away; stopping without it");
        }
        let running = worker.running();
        if running > 0 {
            tracing::info!("waiting for {running} running handlers");
        }
        let drained = worker.drain(peer.config().shutdown_timeout).await;
        tending.abort();
        if !drained {
            tracing::warn!(
                "{} handlers still run; their tasks go back to their queues",
                worker.running()
            );
            match timeout(LAST_WRITES, worker::release(&peer, node)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::error!(%error, "running tasks could not be released; the next start does it");
                }
                Err(_) => {
                    tracing::error!(
                        "running tasks could not be released in time; the next start does it"
                    );
                }
            }
        }
        deliveries.drain(LAST_DELIVERIES).await;
        server.abort();
        let closed = timeout(LAST_WRITES, async {
            peer.0.commits.close().await;
            if let Err(error) = peer.0.peers.write_contacts(&peer.0.store).await {
                tracing::debug!(%error, "the last contacts could not be written down");
            }
            if let Err(error) = peer.0.store.leave(node).await {
                tracing::warn!(%error, "this process could not be signed off");
            }
            peer.0.store.close().await;
        });
        if closed.await.is_err() {
            tracing::warn!("the database took too long to close; what was promised is in it");
        }
        match peer.0.trust.refusals.count() {
            0 => {}
            count => tracing::info!(
                "refused since the start, for want of an identity or a grant: {count}"
            ),
        }
        tracing::info!("stopped");
    }
}

#[cfg(test)]
mod tests;
