//! The keys of the configuration, their defaults, and their validation.
//!
//! `load` reads them from the layers: compiled defaults < file < environment < flags.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use serde::{Deserialize, Serialize};

use super::federation::{PeerConfig, ProxyConfig, TlsConfig};
use crate::model::{
    PeerUrl,
    error::{Error, Result},
};

/// The configuration of a peer. [`App::configure`](crate::App::configure) sets a binary's
/// defaults; `frestq.toml`, the environment and flags override them, in this order.
///
/// In the environment a key is `FRESTQ_` and its name in capitals; two underscores separate nested
/// names: `FRESTQ_ROOT_URL`, `FRESTQ_DELIVERY__TIMEOUT`, `FRESTQ_QUEUES__say_queue__CONCURRENCY`.
/// Durations are written `"30s"`, `"2min"`, `"7days"`. `--check` shows what is in effect, and
/// where each value comes from. `[app]` is the application's own section: see
/// [`App::settings`](crate::App::settings).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// The port of `root_url` and `bind`, unless they are set; 5000 by default.
    pub port: u16,
    /// This peer's address, by which others know it; `http://127.0.0.1:PORT/api/queues` by
    /// default, with `https` if `[tls]` is set.
    pub root_url: Option<String>,
    /// The address to listen on; `127.0.0.1:PORT` by default.
    pub bind: Option<SocketAddr>,
    /// `sqlite:PATH` or `postgres://...`; `sqlite:NAME-OF-THE-BINARY.sqlite` by default.
    pub database: Option<String>,
    /// The name of this process among those that share one Postgres database; none by default.
    pub node: Option<String>,
    /// The largest body of a request, in bytes; 1 MiB by default.
    pub body_limit: usize,
    /// The number of threads that receive and deliver messages and run views; 1 by default. One is
    /// fastest on few cores, since nothing moves between threads then. A view must not block it.
    pub threads: usize,
    /// The number of threads that run handlers, at least 1; by default one per core, at least 4.
    pub handler_threads: usize,
    /// Whether the log contains payloads; not by default.
    pub log_payloads: bool,
    /// Whether accepted messages are recorded in a hash chain (`--audit`); by default if `[tls]`
    /// is set.
    pub audit: Option<bool>,
    /// How long tasks that have ended are kept, with their messages; forever by default.
    #[serde(with = "humantime_serde")]
    pub retention: Option<Duration>,
    /// How long a reservation of a task in a synchronized group is valid; 60 s by default, at
    /// least 1 s. A round of a group lasts half as long.
    #[serde(with = "humantime_serde")]
    pub reservation_timeout: Duration,
    /// How long a stopping peer waits for running handlers; 30 s by default.
    #[serde(with = "humantime_serde")]
    pub shutdown_timeout: Duration,
    /// How long all statements of one [`Task::transaction`](crate::Task::transaction) may take
    /// together; 5 s by default. Nothing else is committed meanwhile. After that they fail, and
    /// the run with them.
    #[serde(with = "humantime_serde")]
    pub transaction_timeout: Duration,
    /// Options by queue; each queue must be served by a handler.
    pub queues: BTreeMap<String, QueueConfig>,
    /// Limits on open tasks, connections and requests.
    pub limits: Limits,
    /// How messages are delivered.
    pub delivery: DeliveryConfig,
    /// This peer's certificate. Without it, and without peers, it serves the loopback only.
    pub tls: TlsConfig,
    /// The proxy in front of this peer; none by default.
    pub proxy: ProxyConfig,
    /// The other peers, by a name that is local to this peer.
    pub peers: BTreeMap<String, PeerConfig>,
}

/// `[queues.NAME]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct QueueConfig {
    /// The number of the queue's tasks that one process runs concurrently, at least 1; 100 by
    /// default.
    pub concurrency: usize,
}

/// `[limits]`: messages beyond them are answered with 503 or 429, and `Retry-After`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Limits {
    /// Received tasks that have not ended, from all peers; 1,000,000 by default.
    pub open_tasks: i64,
    /// Received tasks that have not ended, from one peer; 25,000 by default. Multiplied by
    /// `body_limit`, it bounds the disk space that one peer's open tasks can use.
    pub open_tasks_per_peer: i64,
    /// Free space in bytes that must remain on the disk of an SQLite database; 64 MiB by default.
    pub free_disk: u64,
    /// Concurrent connections that are not from registered peers, at least 1; 4096 by default.
    /// Further ones are closed, or wait in open mode.
    pub connections: usize,
    /// Concurrent connections from one address, at least 1; 256 by default. Further ones are
    /// closed. The limit applies neither in open mode nor to the proxy.
    pub connections_per_address: usize,
    /// Concurrent connections of one peer, at least 1; 256 by default. Requests on further ones
    /// are answered with 429.
    pub connections_per_peer: usize,
    /// Concurrent requests of one peer, at least 1; 64 by default. Further ones are answered with
    /// 429.
    pub requests_per_peer: usize,
    /// How long the body of a request may take to arrive; 30 s by default. After that, the request
    /// is answered with 408.
    #[serde(with = "humantime_serde")]
    pub body_timeout: Duration,
}

/// `[delivery]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct DeliveryConfig {
    /// The timeout for establishing a connection; 5 s by default.
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// The timeout for a whole request; 30 s by default.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// Concurrent requests to one peer, at least 1; 32 by default.
    pub parallel: usize,
    /// The greatest number of messages in one `frestq.batch`, for peers that support it, at least
    /// 1; 256 by default. With 1, each message is sent alone.
    pub batch: usize,
    /// How long delivery of a message without an expiration date is retried; 7 days by default.
    #[serde(with = "humantime_serde")]
    pub give_up_after: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            port: 5000,
            root_url: None,
            bind: None,
            database: None,
            node: None,
            body_limit: 1024 * 1024,
            threads: 1,
            handler_threads: std::thread::available_parallelism().map_or(4, |n| n.get().max(4)),
            log_payloads: false,
            audit: None,
            retention: None,
            reservation_timeout: Duration::from_secs(60),
            shutdown_timeout: Duration::from_secs(30),
            transaction_timeout: Duration::from_secs(5),
            queues: BTreeMap::new(),
            limits: Limits::default(),
            delivery: DeliveryConfig::default(),
            tls: TlsConfig::default(),
            proxy: ProxyConfig::default(),
            peers: BTreeMap::new(),
        }
    }
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self { concurrency: 100 }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            open_tasks: 1_000_000,
            open_tasks_per_peer: 25_000,
            free_disk: 64 * 1024 * 1024,
            connections: 4096,
            connections_per_address: 256,
            connections_per_peer: 256,
            requests_per_peer: 64,
            body_timeout: Duration::from_secs(30),
        }
    }
}

impl Default for DeliveryConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            timeout: Duration::from_secs(30),
            parallel: 32,
            batch: 256,
            give_up_after: Duration::from_secs(7 * 24 * 3600),
        }
    }
}

impl Config {
    /// The options of a queue, for modification.
    pub fn queue(&mut self, name: &str) -> &mut QueueConfig {
        self.queues.entry(name.to_owned()).or_default()
    }

    /// The configuration of another peer, for modification.
    pub fn peer(&mut self, name: &str) -> &mut PeerConfig {
        self.peers.entry(name.to_owned()).or_default()
    }

    /// This peer's address.
    pub(crate) fn root_url(&self) -> Result<PeerUrl> {
        match &self.root_url {
            Some(url) => Ok(url.parse()?),
            None => Ok(self.url_at(([127, 0, 0, 1], self.port).into()).parse()?),
        }
    }

    /// The root queues URL of a peer that listens on `address`.
    pub(crate) fn url_at(&self, address: SocketAddr) -> String {
        let scheme = if self.is_open() { "http" } else { "https" };
        format!("{scheme}://{address}/api/queues")
    }

    /// The address to listen on.
    pub(crate) fn bind(&self) -> SocketAddr {
        self.bind
            .unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], self.port)))
    }

    /// The database's address; by default it is named after the running binary.
    pub(crate) fn database(&self) -> String {
        self.database.clone().unwrap_or_else(|| {
            let binary = std::env::current_exe().ok();
            let name = binary
                .as_deref()
                .and_then(|path| path.file_stem())
                .map(|name| name.to_string_lossy());
            format!("sqlite:{}.sqlite", name.as_deref().unwrap_or("frestq"))
        })
    }

    /// The name of this process among those that serve the same peer.
    pub(crate) fn node_name(&self) -> String {
        self.node.clone().unwrap_or_else(|| self.bind().to_string())
    }

    /// Whether the audit is enabled.
    pub(crate) fn audits(&self) -> bool {
        self.audit.unwrap_or_else(|| !self.is_open())
    }

    /// The number of tasks of `queue` that run concurrently.
    pub(crate) fn concurrency(&self, queue: &str) -> usize {
        self.queues
            .get(queue)
            .cloned()
            .unwrap_or_default()
            .concurrency
    }

    /// Checks the configuration.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] with all faults.
    pub(crate) fn validate(&self) -> Result<()> {
        match self.faults() {
            faults if faults.is_empty() => Ok(()),
            faults => Err(Error::Config(faults.join("\n  "))),
        }
    }

    /// All faults of the configuration, apart from the files that it names.
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if let Err(error) = self.root_url() {
            faults.push(format!("root_url: {error}"));
        }
        faults.extend(self.federation_faults());
        let at_least_one = [
            ("delivery.parallel", self.delivery.parallel),
            ("delivery.batch", self.delivery.batch),
            ("threads", self.threads),
            ("limits.connections", self.limits.connections),
            (
                "limits.connections_per_address",
                self.limits.connections_per_address,
            ),
            (
                "limits.connections_per_peer",
                self.limits.connections_per_peer,
            ),
            ("limits.requests_per_peer", self.limits.requests_per_peer),
            ("handler_threads", self.handler_threads),
        ];
        for (key, value) in at_least_one {
            if value == 0 {
                faults.push(format!("{key} must be at least 1"));
            }
        }
        if self.reservation_timeout < Duration::from_secs(1) {
            faults.push("reservation_timeout must be at least 1s".to_owned());
        }
        if self.transaction_timeout < Duration::from_millis(1) {
            faults.push("transaction_timeout must be at least 1ms".to_owned());
        }
        for (queue, options) in &self.queues {
            if options.concurrency == 0 {
                faults.push(format!("queues.{queue}.concurrency must be at least 1"));
            }
        }
        faults
    }
}
