//! Builds the services of a peer from what it has opened.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::{
    commit::{
        ClaimedTask, Committer, UncertainCommit, admission::Admission, audit_chain::AuditChain,
        queue::CommitQueue, slots::Slots, task_cache::TaskCache,
    },
    config::Config,
    http::{client::Client, quota::Quota},
    model::{
        NodeId,
        catalog::Catalog,
        error::{Error, Result},
    },
    outbox::Outbox,
    peers::registry::PeerRegistry,
    runtime::{clock::Clock, notify::Notifier},
    services::Services,
    store::Store,
};

/// The parts from which the committer, the outbox and the other services are built.
pub(super) struct Foundation {
    pub(super) store: Arc<Store>,
    pub(super) registry: PeerRegistry,
    pub(super) notifier: Arc<Notifier>,
    pub(super) admission: Arc<Admission>,
    pub(super) clock: Clock,
    pub(super) node: NodeId,
}

impl Foundation {
    pub(super) async fn start_committer(
        &self,
        config: &Config,
        catalog: &Catalog,
    ) -> Result<(CommitQueue, mpsc::UnboundedReceiver<ClaimedTask>)> {
        let (claims, claimed) = mpsc::unbounded_channel();
        let slots = catalog
            .queues()
            .map(|queue| (queue, config.concurrency(queue)));
        let committer = Committer {
            store: self.store.clone(),
            writer: self.store.writer().await?,
            node: self.node,
            url: self.registry.own_url.clone(),
            clock: self.clock.clone(),
            peers: self.registry.peers.clone(),
            notifier: self.notifier.clone(),
            admission: self.admission.clone(),
            slots: Slots::new(slots),
            claimed: claims,
            reservation_timeout: config.reservation_timeout,
            give_up_after: config.delivery.give_up_after,
            log_payloads: config.log_payloads,
            uncertain: UncertainCommit::default(),
            transaction_timeout: config.transaction_timeout,
            undone: std::collections::HashMap::new(),
            standalone: None,
            audit: config.audits().then(|| AuditChain::new(config.node_name())),
            recheck_held: false,
            task_cache: TaskCache::new(self.store.is_exclusive()),
        };
        Ok((committer.start(), claimed))
    }

    pub(super) fn outbox(&self, config: &Config, commits: &CommitQueue) -> Result<Outbox> {
        Ok(Outbox {
            store: self.store.clone(),
            peers: self.registry.peers.clone(),
            commits: commits.clone(),
            client: Client::new(&config.delivery, self.registry.trust.clone())?,
            config: config.delivery.clone(),
            clock: self.clock.clone(),
            own_url: self.registry.own_url.clone(),
            node: self.node,
            batch_bytes: config.body_limit / 2,
        })
    }

    pub(super) fn services(
        self,
        config: Config,
        catalog: Catalog,
        commits: CommitQueue,
    ) -> Result<Services> {
        Ok(Services {
            url: self.registry.own_url.clone(),
            proxy: config.proxy().map_err(Error::Config)?,
            requests: Quota::new(config.limits.requests_per_peer),
            config,
            catalog,
            store: self.store,
            peers: self.registry.peers.clone(),
            trust: self.registry.trust.clone(),
            registry: Arc::new(self.registry),
            commits,
            notifier: self.notifier,
            admission: self.admission,
            clock: self.clock,
        })
    }
}
