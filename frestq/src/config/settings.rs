//! The configuration: what there is to set, its defaults, and what can't work.
//!
//! `load` reads it from its layers, compiled defaults < file < environment < flags.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use serde::{Deserialize, Serialize};

use super::federation::{PeerConfig, ProxyConfig, TlsConfig};
use crate::model::{
    PeerUrl,
    error::{Error, Result},
};

/// What can be configured. [`App::configure`](crate::App::configure) sets a peer's own defaults;
/// `frestq.toml`, the environment and flags override them, in this order.
///
/// In the environment a key is `FRESTQ_` and its name in capitals; two underscores part nested
/// names: `FRESTQ_ROOT_URL`, `FRESTQ_DELIVERY__TIMEOUT`, `FRESTQ_QUEUES__say_queue__CONCURRENCY`.
/// Durations are written `"30s"`, `"2min"`, `"7days"`. `--check` shows what is in effect, and where
/// each value comes from. `[app]` is the application's own section: see
/// [`App::settings`](crate::App::settings).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// The port that `root_url` and `bind` have unless they are given; 5000 by default.
    pub port: u16,
    /// This peer's address, and its name on the wire; `http://127.0.0.1:PORT/api/queues` by default, with
    /// `https` once there is `[tls]`.
    pub root_url: Option<String>,
    /// Where to listen; `127.0.0.1:PORT` by default.
    pub bind: Option<SocketAddr>,
    /// `sqlite:PATH` or `postgres://...`; `sqlite:NAME-OF-THE-BINARY.sqlite` by default.
    pub database: Option<String>,
    /// The name of this process among those that share one Postgres database; none by default.
    pub node: Option<String>,
    /// The largest body of a request, in bytes; 1 MiB by default.
    pub body_limit: usize,
    /// How many threads take in and deliver messages, and run views. One is the fastest on few cores,
    /// since nothing then moves between threads; a view must not block it.
    pub threads: usize,
    /// How many threads run handlers, at least 1; by default one for each core, and at least 4.
    pub handler_threads: usize,
    /// Whether payloads are written to the log; not by default.
    pub log_payloads: bool,
    /// Whether a chained record is kept of who asked for what (`--audit`); by default where there is `[tls]`.
    pub audit: Option<bool>,
    /// For how long tasks that have ended are kept, with their messages; for ever by default.
    #[serde(with = "humantime_serde")]
    pub retention: Option<Duration>,
    /// How long a task of a synchronized group holds what it has reserved; 60 s by default. A round of
    /// a group lasts half as long.
    #[serde(with = "humantime_serde")]
    pub reservation_timeout: Duration,
    /// How long a stopping peer waits for running handlers; 30 s by default.
    #[serde(with = "humantime_serde")]
    pub shutdown_timeout: Duration,
    /// How long the statements of one handler's [`transaction`](crate::Task::transaction) may take together;
    /// 5 s by default. Meanwhile nothing else is committed. Past it they fail, and with them the run.
    #[serde(with = "humantime_serde")]
    pub transaction_timeout: Duration,
    /// Options by queue; each must be one that a handler serves.
    pub queues: BTreeMap<String, QueueConfig>,
    /// How much may wait here.
    pub limits: Limits,
    /// How messages are delivered.
    pub delivery: DeliveryConfig,
    /// What this peer shows others of itself; without it, and without peers, it serves its own machine only.
    pub tls: TlsConfig,
    /// The proxy in front of this peer; none by default.
    pub proxy: ProxyConfig,
    /// The other peers, by a name that this one gives them.
    pub peers: BTreeMap<String, PeerConfig>,
}

/// `[queues.NAME]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct QueueConfig {
    /// How many tasks of the queue run at the same time in one process, at least 1; 100 by default.
    pub concurrency: usize,
}

/// `[limits]`: past them, messages are answered with 503 or 429, and `Retry-After`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Limits {
    /// Received tasks that have not ended, in all; 1,000,000 by default.
    pub open_tasks: i64,
    /// Received tasks that have not ended, from one peer; 25,000 by default. Times `body_limit`, it is what one
    /// peer can make wait on the disk.
    pub open_tasks_per_peer: i64,
    /// Bytes that must stay free on the disk of an SQLite database; 64 MiB by default.
    pub free_disk: u64,
    /// Connections at the same time of those that are no registered peers, at least 1; others are closed, or
    /// wait in open mode. 4096 by default.
    pub connections: usize,
    /// Connections from one address at the same time, at least 1; others are closed. 256 by default. It
    /// holds neither in open mode nor for the proxy.
    pub connections_per_address: usize,
    /// Connections with one certificate at the same time, at least 1; what comes on others is answered
    /// with 429. 256 by default.
    pub connections_per_peer: usize,
    /// Requests of one peer at the same time, at least 1; others are answered with 429. 64 by default.
    pub requests_per_peer: usize,
    /// How long the body of a request may take to come; past that it is answered with 408. 30 s by default.
    #[serde(with = "humantime_serde")]
    pub body_timeout: Duration,
}

/// `[delivery]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct DeliveryConfig {
    /// How long a connection may take to be made; 5 s by default.
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// How long a request may take in all; 30 s by default.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// Requests under way to one peer at the same time, at least 1; 32 by default.
    pub parallel: usize,
    /// Messages in one `frestq.batch`, for peers that read it; 1 sends each alone, 256 is the
    /// default.
    pub batch: usize,
    /// How long a message without an expiration date is tried; 7 days by default.
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
    /// The options of a queue, to be changed.
    pub fn queue(&mut self, name: &str) -> &mut QueueConfig {
        self.queues.entry(name.to_owned()).or_default()
    }

    /// Another peer, to be changed.
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

    /// The root queues URL of a peer that listens there.
    pub(crate) fn url_at(&self, address: SocketAddr) -> String {
        let scheme = if self.is_open() { "http" } else { "https" };
        format!("{scheme}://{address}/api/queues")
    }

    /// Where to listen.
    pub(crate) fn bind(&self) -> SocketAddr {
        self.bind
            .unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], self.port)))
    }

    /// The database's address; named after the running binary unless it is given.
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

    /// The name of this process among those of the same peer.
    pub(crate) fn node_name(&self) -> String {
        self.node.clone().unwrap_or_else(|| self.bind().to_string())
    }

    /// Whether there is an audit.
    pub(crate) fn audits(&self) -> bool {
        self.audit.unwrap_or_else(|| !self.is_open())
    }

    /// How many tasks of `queue` run at the same time.
    pub(crate) fn concurrency(&self, queue: &str) -> usize {
        self.queues
            .get(queue)
            .cloned()
            .unwrap_or_default()
            .concurrency
    }

    /// Refuses what can't work.
    pub(crate) fn validate(&self) -> Result<()> {
        match self.faults() {
            faults if faults.is_empty() => Ok(()),
            faults => Err(Error::Config(faults.join("\n  "))),
        }
    }

    /// Everything that can't work.
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
