//! The authenticated sender of a message, and its row in `peers`.

use super::response::{Rejection, overloaded};
use crate::{
    engine::{Event, MessageKind},
    model::{Fingerprint, PeerId, PeerUrl},
    peers::reachability::record_success,
    runtime::notify::WakeReason,
    security::registered::RegisteredPeer,
    services::Services,
};

/// The sender of a request. In open mode the `sender_url` is not verified; a new sender is added
/// to the known peers with its first valid message. Rejected messages store nothing.
pub(super) struct Sender<'a> {
    pub(super) url: PeerUrl,
    pub(super) extensions: bool,
    /// The registered peer; `None` in open mode.
    pub(super) peer: Option<&'a RegisteredPeer>,
    /// The certificate that it has shown.
    pub(super) certificate: Option<Fingerprint>,
}

impl Sender<'_> {
    /// The sender's row, if it is known. If its breaker is open, any message of it closes the
    /// breaker.
    pub(super) async fn find(&self, services: &Services) -> Result<Option<PeerId>, Rejection> {
        let known = services.peers.by_url(&self.url);
        let row = known.and_then(|id| services.peers.by_id(id));
        if let Some(row) = row.filter(|row| row.health.failures > 0) {
            self.record_contact(services, row.id).await?;
        }
        Ok(known)
    }

    /// Sets the sender's certificate and row, added if necessary, in decoded events, and records
    /// the contact. Only valid messages get this far, so rejected ones write nothing.
    pub(super) async fn attach(
        &self,
        services: &Services,
        known: Option<PeerId>,
        events: &mut [Event],
    ) -> Result<(), Rejection> {
        for event in events.iter_mut() {
            let Event::Receive(received) = event else {
                continue;
            };
            received.certificate = self.certificate;
            if let MessageKind::Task(task) | MessageKind::Synchronize(task) = &mut received.what {
                task.state.certificate = self.certificate;
            }
        }
        if let Some(id) = known {
            return self.record_contact(services, id).await;
        }
        let found = services.peers.find_or_add(&services.store, &self.url).await;
        let id = found.map_err(|error| overloaded(&error))?;
        self.record_contact(services, id).await?;
        for event in events {
            let Event::Receive(received) = event else {
                continue;
            };
            received.row.key.peer = id;
            if let MessageKind::Task(task) | MessageKind::Synchronize(task) = &mut received.what {
                task.state.peer = id;
            }
        }
        Ok(())
    }

    /// Records that the sender can be reached, and whether it supports the extensions.
    async fn record_contact(&self, services: &Services, id: PeerId) -> Result<(), Rejection> {
        services.peers.heard(id, services.clock.now());
        let was_unreachable = services
            .peers
            .by_id(id)
            .is_some_and(|row| row.health.failures > 0);
        let updated = services.peers.update(&services.store, id, |health| {
            health.extensions = self.extensions;
            record_success(health);
        });
        updated.await.map_err(|error| overloaded(&error))?;
        if was_unreachable {
            services.notifier.wake_outbox(id, WakeReason::PeerIsBack);
        }
        Ok(())
    }
}

/// Whether `claimed` is the address of the peer at `url`, or its former one, which messages from
/// before the change still contain.
pub(super) fn is_address_of(services: &Services, url: &PeerUrl, claimed: &PeerUrl) -> bool {
    let peers = &services.peers;
    url == claimed
        || peers
            .by_url(url)
            .is_some_and(|id| peers.was_at(id, claimed))
}
