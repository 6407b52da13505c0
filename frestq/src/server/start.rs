//! Starts a peer from an application.

use std::{future::Future, net::SocketAddr, pin::pin, sync::Arc};

use axum::Router;
use tokio::{
    net::TcpListener,
    sync::watch,
    task::{JoinHandle, JoinSet},
};

use super::{
    app::App,
    foundation::Foundation,
    reload::{reload_at_each_hangup, stop_signal},
    running::{RunningPeer, close},
};
#[cfg(feature = "tls")]
use crate::http::tls::TlsListener;
use crate::{
    api::peer::Frestq,
    commit::admission::Admission,
    config::Config,
    http::{
        connection::ConnectionLimits,
        listen::PlainListener,
        proxy::ProxyListener,
        server::{IDLE, ServerLimits, serve},
    },
    inbox,
    maintenance::{background, orphans},
    model::{
        Grant, NodeId,
        error::{Error, Result},
    },
    operator::commands,
    outbox::Deliveries,
    peers::registry::PeerRegistry,
    runtime::{notify::Notifier, supervisor::abort_on_panic},
    security::Trust,
    services::Services,
    store::{OpenMode, Store},
    worker::Worker,
};

/// Where a peer accepts messages.
enum Listen {
    /// On the address of the configuration.
    Bind,
    /// On the listener of the caller.
    On(TcpListener),
    /// The caller serves its router.
    Nowhere,
}

impl App {
    /// Starts the peer without a listener.
    ///
    /// The caller serves or nests [its router](RunningPeer::router), and stops the peer with
    /// [`RunningPeer::stop`].
    ///
    /// The configuration is that of [`configure`](Self::configure) and
    /// [`settings_value`](Self::settings_value); file and environment are read only by
    /// [`load_config`](Self::load_config). Set at least `database` and `root_url`. Peers of one
    /// process share only the registered handlers. Nothing is logged unless the application has
    /// set up `tracing`.
    ///
    /// ```no_run
    /// use frestq::App;
    ///
    /// # async fn example() -> frestq::Result<()> {
    /// let app = App::new().configure(|c| {
    ///     c.root_url = Some("http://127.0.0.1:8000/api/queues".into());
    ///     c.database = Some("sqlite:mine.sqlite".into());
    /// });
    /// app.create_database().await?;
    /// let running = app.start().await?;
    /// let router = axum::Router::new().merge(running.router());
    /// # let _ = router;
    /// running.stop().await;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Config`] and [`Error::Handlers`] with all errors that were found,
    /// [`Error::Schema`] if the database does not have the tables of this version,
    /// [`Error::Hook`] from `on_start`, or errors of the database.
    pub async fn start(self) -> Result<RunningPeer> {
        self.start_on(Listen::Nowhere).await
    }

    /// Serves on the given listener until `shutdown` completes, and then stops in order, like
    /// `axum::serve` with a graceful shutdown.
    ///
    /// If `root_url` is not set, it is made from the address of the listener. The configuration
    /// is that of [`configure`](Self::configure) and [`settings_value`](Self::settings_value);
    /// file and environment are read only by [`load_config`](Self::load_config). Signals are not
    /// handled.
    ///
    /// ```no_run
    /// use frestq::App;
    ///
    /// # async fn example() -> anyhow::Result<()> {
    /// let app = App::new().configure(|c| c.database = Some("sqlite:mine.sqlite".into()));
    /// app.create_database().await?;
    /// let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    /// app.serve(listener, async { tokio::signal::ctrl_c().await.unwrap() }).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// The errors of [`start`](Self::start), and [`Error::Config`] if the listener is not on the
    /// loopback and there is no `[tls]`.
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()>,
    ) -> Result<()> {
        let mut shutdown = pin!(shutdown);
        let running = tokio::select! {
            running = self.start_on(Listen::On(listener)) => running?,
            // A start hook may never end. Stopping here is like a crash, which loses nothing.
            () = &mut shutdown => return Ok(()),
        };
        shutdown.await;
        running.stop().await;
        Ok(())
    }

    /// Serves on the configured address until SIGTERM or Ctrl-C.
    pub(crate) async fn serve_until_signal(mut self) -> Result<()> {
        let reread = self.reread.take();
        let running = self.start_on(Listen::Bind).await?;
        let services = running.handle().services.clone();
        let reloading = async {
            match reread {
                Some(reread) if services.trust.snapshot().is_some() => {
                    reload_at_each_hangup(&services, &reread).await
                }
                // Without anything to reload, a closed terminal ends the peer as it ends other
                // programs.
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

    /// Starts the peer on the configured address. For tests of the library.
    #[cfg(test)]
    pub(crate) async fn start_bound(self) -> Result<RunningPeer> {
        self.start_on(Listen::Bind).await
    }

    async fn start_on(mut self, listen: Listen) -> Result<RunningPeer> {
        let listen = self.prepare(listen)?;
        let handlers = self.registry();
        let Self {
            router,
            states,
            config,
            clock,
            mut hooks,
            ..
        } = self;
        handlers.check(&states, config.queues.keys().map(String::as_str))?;
        let catalog = handlers.catalog();
        let trust = Arc::new(Trust::load(&config)?);
        let store = Arc::new(Store::open(&config.database(), OpenMode::Serve).await?);
        let listener = listen.listener(&config).await?;
        let url = config.root_url()?;
        store.set_own_url(&url).await?;
        let node = store.join(&config.node_name(), clock.now()).await?;
        let (notifier, wakes) = Notifier::new();
        let notifier = Arc::new(notifier);
        let registry = PeerRegistry::new(&store, trust.clone(), url, notifier.clone()).await?;
        registry.start().await?;
        let admission = Arc::new(Admission::new(config.limits.clone()));
        admission.reset(store.open_tasks().await?);
        let foundation = Foundation {
            store,
            registry,
            notifier,
            admission,
            clock,
            node,
        };
        let (commits, claimed) = foundation.start_committer(&config, &catalog).await?;
        let outbox = foundation.outbox(&config, &commits)?;
        let services = Arc::new(foundation.services(config, catalog, commits)?);
        let peer = Frestq::new(services.clone(), states);
        report_handlers(&services);
        if let Err(error) = hooks.start(&peer).await {
            // Another start in this process must find the database free.
            close(&peer, node).await;
            return Err(error);
        }
        orphans::take_over(&services).await?;
        let worker = Worker::start(
            peer.clone(),
            handlers,
            peer.config().handler_threads,
            claimed,
        )?;
        let deliveries = Deliveries::start(outbox, wakes).await?;
        let router = router
            .with_state(peer.clone())
            .merge(inbox::routes(&services));
        Ok(RunningPeer {
            node,
            deliveries,
            upkeep: start_upkeep(&services, node),
            server: listener.map(|listener| start_server(listener, &services, router.clone())),
            background: hooks.spawn_background(&peer, worker.threads()),
            worker,
            hooks,
            router,
            peer,
        })
    }

    /// Validates the configuration, after it has taken the address of a given listener.
    fn prepare(&mut self, listen: Listen) -> Result<Listen> {
        if let Listen::On(listener) = &listen {
            let address = listener.local_addr().map_err(|source| Error::Io {
                what: "can't find out the address of the listener".into(),
                source,
            })?;
            self.config.bind = Some(address);
            if self.config.root_url.is_none() {
                self.config.root_url = Some(self.config.url_at(address));
            }
        }
        self.config.validate()?;
        Ok(listen)
    }
}

impl Listen {
    async fn listener(self, config: &Config) -> Result<Option<TcpListener>> {
        match self {
            Listen::Nowhere => Ok(None),
            Listen::On(listener) => Ok(Some(listener)),
            Listen::Bind => {
                let bind: SocketAddr = config.bind();
                let listener = TcpListener::bind(bind).await;
                listener.map(Some).map_err(|source| Error::Bind {
                    bind: bind.to_string(),
                    source,
                })
            }
        }
    }
}

/// Starts maintenance and the requests of the command line.
fn start_upkeep(services: &Arc<Services>, node: NodeId) -> JoinSet<()> {
    let mut upkeep = JoinSet::new();
    let maintained = services.clone();
    upkeep.spawn(abort_on_panic("maintenance", async move {
        background::run(&maintained, node).await;
    }));
    let requested = services.clone();
    upkeep.spawn(abort_on_panic("the command line's requests", async move {
        commands::serve_requests(&requested).await;
    }));
    upkeep
}

/// Starts the server: plain, with TLS, or behind the proxy.
fn start_server(
    listener: TcpListener,
    services: &Services,
    router: Router,
) -> (JoinHandle<()>, watch::Sender<bool>) {
    let (stop, stopping) = watch::channel(false);
    let own = services
        .trust
        .snapshot()
        .and_then(|snapshot| snapshot.identity.fingerprint());
    let limits = ServerLimits {
        connections: services.config.limits.connections,
        idle: IDLE,
        wait: own.is_none(),
    };
    let connection_limits = ConnectionLimits::new(&services.config.limits);
    let server = match (own, &services.proxy) {
        (_, Some(proxy)) => {
            let listener = ProxyListener::new(listener, proxy, connection_limits);
            tokio::spawn(serve(listener, router, limits, stopping))
        }
        #[cfg(feature = "tls")]
        (Some(_), None) => {
            let listener = TlsListener::new(listener, services.trust.clone(), connection_limits);
            tokio::spawn(serve(listener, router, limits, stopping))
        }
        // Without the feature no peer has a certificate.
        (_, None) => tokio::spawn(serve(PlainListener(listener), router, limits, stopping)),
    };
    report_address(services, own.map(|own| own.to_string()));
    (server, stop)
}

fn report_address(services: &Services, own: Option<String>) {
    if let Some(proxy) = &services.proxy {
        tracing::info!(
            target: "frestq::server",
            "the proxy at {} authenticates the senders",
            proxy.address,
        );
        if proxy.address.is_loopback() {
            tracing::warn!(
                target: "frestq::server",
                "every process on this machine can connect from {} and \
                 impersonate any peer; run nothing untrusted on it",
                proxy.address,
            );
        }
    }
    let bind = services.config.bind();
    match own {
        Some(own) => tracing::info!(
            target: "frestq::server",
            "serving {} on {bind} as {own}",
            services.url,
        ),
        None => tracing::info!(target: "frestq::server", "serving {} on {bind}", services.url),
    }
}

fn report_handlers(services: &Services) {
    let handlers: Vec<_> = services
        .catalog
        .iter()
        .map(|handler| format!("{}/{}", handler.queue, handler.action))
        .collect();
    tracing::info!(
        target: "frestq::server",
        "handlers: {}",
        if handlers.is_empty() {
            "none".to_owned()
        } else {
            handlers.join(", ")
        },
    );
    warn_about_unused_grants(services);
}

/// Warns about grants for actions that no handler serves; most likely they are misspelled.
fn warn_about_unused_grants(services: &Services) {
    let Some(snapshot) = services.trust.snapshot() else {
        return;
    };
    for member in snapshot.peers.all() {
        let unused = |grant: &&Grant| {
            let mut served = services.catalog.iter().filter(|h| !h.options.local);
            !served.any(|handler| grant.covers(handler.queue, handler.action))
        };
        for grant in member.grants.iter().filter(unused) {
            tracing::warn!(
                target: "frestq::server",
                "peers.{}.allow: no handler serves {grant}",
                member.name,
            );
        }
    }
}
