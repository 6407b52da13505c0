//! Whose a message is, by its row among the known peers.

use super::response::{Rejection, overloaded};
use crate::{
    engine::{Event, MessageKind},
    model::{Fingerprint, PeerId, PeerUrl},
    peers::reachability::reached,
    runtime::notify::WakeReason,
    security::registered::RegisteredPeer,
    services::Services,
};

/// Who sent it. Without configured peers everybody on the loopback is who he says he is, and becomes
/// known with the first message that makes sense; one that is refused leaves no trace.
pub(super) struct Sender<'a> {
    pub(super) url: PeerUrl,
    pub(super) extensions: bool,
    /// The registered peer; none in open mode.
    pub(super) member: Option<&'a RegisteredPeer>,
    /// What it has shown.
    pub(super) certificate: Option<Fingerprint>,
}

impl Sender<'_> {
    /// Its row, if it is known. If it was away, it is noted that it is there again, whatever it asks for.
    pub(super) async fn recognize(&self, services: &Services) -> Result<Option<PeerId>, Rejection> {
        let known = services.peers.by_url(&self.url);
        let row = known.and_then(|id| services.peers.by_id(id));
        if let Some(row) = row.filter(|row| row.health.failures > 0) {
            self.note(services, row.id).await?;
        }
        Ok(known)
    }

    /// Writes the sender's certificate and its row, made if need be, into events that were decoded
    /// without them, and notes that it is there: what it may not ask for makes nobody write.
    pub(super) async fn sign(
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
            return self.note(services, id).await;
        }
        let found = services.peers.find_or_add(&services.store, &self.url).await;
        let id = found.map_err(|error| overloaded(&error))?;
        self.note(services, id).await?;
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

    /// It spoke to us, so it is there, and reads what this request shows that it reads.
    async fn note(&self, services: &Services, id: PeerId) -> Result<(), Rejection> {
        services.peers.heard(id, services.clock.now());
        let was_away = services
            .peers
            .by_id(id)
            .is_some_and(|row| row.health.failures > 0);
        let noted = services.peers.update(&services.store, id, |health| {
            health.extensions = self.extensions;
            reached(health);
        });
        noted.await.map_err(|error| overloaded(&error))?;
        if was_away {
            services.notifier.wake_outbox(id, WakeReason::PeerIsBack);
        }
        Ok(())
    }
}

/// Whether a peer with this address may say that it is `said`: a message that was made before the
/// address changed still has the former one.
pub(super) fn is_at(services: &Services, url: &PeerUrl, said: &PeerUrl) -> bool {
    let peers = &services.peers;
    url == said || peers.by_url(url).is_some_and(|id| peers.was_at(id, said))
}
