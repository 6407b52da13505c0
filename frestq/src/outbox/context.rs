//! What every lane works with.

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

/// What every lane works with.
pub(crate) struct Outbox {
    pub(crate) store: Arc<Store>,
    pub(crate) peers: Arc<PeerDirectory>,
    pub(crate) commits: CommitQueue,
    pub(crate) client: Client,
    pub(crate) config: DeliveryConfig,
    pub(crate) clock: Clock,
    pub(crate) own_url: PeerUrl,
    pub(crate) node: NodeId,
    /// The largest request that is made of more than one message, in bytes.
    pub(crate) batch_bytes: usize,
}
