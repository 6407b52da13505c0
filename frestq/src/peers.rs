//! The peers that are known, kept in memory beside their rows.

use std::{
    collections::HashMap,
    sync::{Arc, RwLock},
};

use crate::{
    error::{Error, Result},
    model::{PeerId, PeerUrl},
    store::{PeerHealth, PeerRow, Store},
    trust::Trust,
};

/// The rows of `peers`, read once and written through.
#[derive(Default)]
pub(crate) struct Peers {
    known: RwLock<Known>,
    trust: Arc<Trust>,
}

#[derive(Default)]
struct Known {
    by_url: HashMap<PeerUrl, PeerId>,
    by_id: HashMap<PeerId, Arc<PeerRow>>,
}

impl Peers {
    pub(crate) async fn load(store: &Store, trust: Arc<Trust>) -> Result<Self> {
        let peers = Self {
            trust,
            ..Self::default()
        };
        for row in store.peers().await? {
            peers.put(row);
        }
        Ok(peers)
    }

    fn put(&self, row: PeerRow) -> Arc<PeerRow> {
        let row = Arc::new(row);
        let mut known = self
            .known
            .write()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        known.by_url.insert(row.url.clone(), row.id);
        known.by_id.insert(row.id, row.clone());
        row
    }

    pub(crate) fn by_id(&self, id: PeerId) -> Option<Arc<PeerRow>> {
        self.read(|known| known.by_id.get(&id).cloned())
    }

    /// The peer of this row, which another process may have made.
    pub(crate) async fn get(&self, store: &Store, id: PeerId) -> Result<Arc<PeerRow>> {
        if let Some(row) = self.by_id(id) {
            return Ok(row);
        }
        for row in store.peers().await? {
            if self.by_id(row.id).is_none() {
                self.put(row);
            }
        }
        self.by_id(id)
            .ok_or_else(|| Error::Invalid(format!("no peer has the row {}", id.0)))
    }

    /// The peer of this row as other processes have left it.
    pub(crate) async fn read_again(&self, store: &Store, id: PeerId) -> Result<Arc<PeerRow>> {
        let rows = store.peers().await?;
        let row = rows.into_iter().find(|row| row.id == id);
        row.map(|row| self.put(row))
            .ok_or_else(|| Error::Invalid(format!("no peer has the row {}", id.0)))
    }

    /// The peer with this address, if it is known.
    pub(crate) fn by_url(&self, url: &PeerUrl) -> Option<PeerId> {
        self.read(|known| known.by_url.get(url).copied())
    }

    fn read<T>(&self, look: impl FnOnce(&Known) -> T) -> T {
        look(
            &self
                .known
                .read()
                .unwrap_or_else(|poisoned| poisoned.into_inner()),
        )
    }

    /// The peer with this address. In open mode whoever speaks or is spoken to becomes known,
    /// else only who is registered.
    pub(crate) async fn find_or_add(&self, store: &Store, url: &PeerUrl) -> Result<PeerId> {
        let standing = self.trust.standing();
        if standing.is_some_and(|standing| standing.members.by_url(url).is_none()) {
            return Err(Error::UnknownPeer(url.clone()));
        }
        match self.by_url(url) {
            Some(id) => Ok(id),
            None => Ok(self.put(store.add_peer(url).await?).id),
        }
    }

    /// Changes what is known of a peer's reachability; written only if it differs.
    pub(crate) async fn update(
        &self,
        store: &Store,
        id: PeerId,
        change: impl FnOnce(&mut PeerHealth),
    ) -> Result<()> {
        match self.change(id, change) {
            Some(health) => store.set_peer_health(id, &health).await,
            None => Ok(()),
        }
    }

    /// Changes it in memory, as a whole: requests and messages report at the same time.
    fn change(&self, id: PeerId, change: impl FnOnce(&mut PeerHealth)) -> Option<PeerHealth> {
        let mut known = self
            .known
            .write()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let row = known.by_id.get_mut(&id)?;
        let mut health = row.health.clone();
        change(&mut health);
        if health == row.health {
            return None;
        }
        *row = Arc::new(PeerRow {
            health: health.clone(),
            ..(**row).clone()
        });
        Some(health)
    }
}
