//! The context that all lanes share.

use std::sync::Arc;

use crate::{
    commit::queue::CommitQueue,
    config::DeliveryConfig,
    http::client::Client,
    model::{NodeId, PeerUrl},
    peers::directory::PeerDirectory,
    runtime::clock::Clock,
    store::Store,
};

/// The context of a lane: the services it uses, and its configuration.
pub(crate) struct Outbox {
    pub(crate) store: Arc<Store>,
    pub(crate) peers: Arc<PeerDirectory>,
    pub(crate) commits: CommitQueue,
    pub(crate) client: Client,
    pub(crate) config: DeliveryConfig,
    pub(crate) clock: Clock,
    pub(crate) own_url: PeerUrl,
    pub(crate) node: NodeId,
    /// The maximum size of a request with more than one message, in bytes.
    pub(crate) batch_bytes: usize,
}
