//! The services of a running peer, in one value.

use std::sync::Arc;

use crate::{
    commit::{admission::Admission, queue::CommitQueue},
    config::{Config, federation::Proxy},
    http::quota::Quota,
    model::{PeerUrl, catalog::Catalog},
    peers::{directory::PeerDirectory, registry::PeerRegistry},
    runtime::{clock::Clock, notify::Notifier},
    security::Trust,
    store::Store,
};

/// The services of a peer, shared by the inbox, the worker, maintenance and the API.
pub(crate) struct Services {
    pub(crate) url: PeerUrl,
    pub(crate) config: Config,
    pub(crate) catalog: Catalog,
    pub(crate) store: Arc<Store>,
    pub(crate) peers: Arc<PeerDirectory>,
    pub(crate) trust: Arc<Trust>,
    pub(crate) registry: Arc<PeerRegistry>,
    pub(crate) commits: CommitQueue,
    pub(crate) notifier: Arc<Notifier>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) clock: Clock,
    /// The proxy whose header with the sender's certificate is trusted.
    pub(crate) proxy: Option<Proxy>,
    /// The quota of concurrent requests, by the name of the peer.
    pub(crate) requests: Arc<Quota<String>>,
}
