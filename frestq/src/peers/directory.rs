//! The peers that are known, kept in memory beside their rows.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, RwLock},
};

use jiff::Timestamp;

use crate::{
    model::{
        PeerId, PeerUrl,
        error::{Error, Result},
    },
    security::{Trust, TrustSnapshot},
    store::{Contact, PeerHealth, PeerRow, Store},
};

/// The rows of `peers`, read once and written through.
#[derive(Default)]
pub(crate) struct PeerDirectory {
    known: RwLock<Known>,
    trust: Arc<Trust>,
    /// News of contacts that are not written yet: a write for each message would cost more than the
    /// message.
    contacts: Mutex<HashMap<PeerId, Contact>>,
}

#[derive(Default)]
struct Known {
    by_url: HashMap<PeerUrl, PeerId>,
    by_id: HashMap<PeerId, Arc<PeerRow>>,
}

/// Every task and message names a peer that has a row.
fn no_row(id: PeerId) -> Error {
    Error::Corrupt {
        what: "peers.id".to_owned(),
        why: format!("there is no row {}", id.0),
    }
}

impl PeerDirectory {
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
        self.by_id(id).ok_or_else(|| no_row(id))
    }

    /// The peer of this row as other processes have left it.
    pub(crate) async fn read_again(&self, store: &Store, id: PeerId) -> Result<Arc<PeerRow>> {
        let rows = store.peers().await?;
        let row = rows.into_iter().find(|row| row.id == id);
        row.map(|row| self.put(row)).ok_or_else(|| no_row(id))
    }

    /// Whether a peer was at this address before the last change, and nobody is there now. What it sent,
    /// or was sent, in that time still says so.
    pub(crate) fn was_at(&self, id: PeerId, url: &PeerUrl) -> bool {
        self.read(|known| {
            let row = known.by_id.get(&id);
            let was = row.is_some_and(|row| row.former_url.as_ref() == Some(url));
            was && !known.by_url.contains_key(url)
        })
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
        let snapshot = self.trust.snapshot();
        if snapshot.is_some_and(|snapshot| snapshot.members.by_url(url).is_none()) {
            return Err(Error::UnknownPeer(url.clone()));
        }
        match self.by_url(url) {
            Some(id) => Ok(id),
            // Boxed, since it is rare, and every message on its way would have room for it.
            None => Ok(self.put(Box::pin(store.add_peer(url)).await?).id),
        }
    }

    /// Puts another standing into effect. First each of its peers has its row, under its name: one whose
    /// address has changed keeps its row, and with it its tasks.
    pub(crate) async fn follow(&self, store: &Store, snapshot: TrustSnapshot) -> Result<()> {
        let members = snapshot.members.all();
        let members: Vec<_> = members.iter().map(|m| (m.name.as_str(), &m.url)).collect();
        let steps = plan(&store.peers().await?, &members);
        for step in &steps {
            step.take(store).await?;
        }
        let rows = store.peers().await?;
        let mut known = self
            .known
            .write()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        known.by_url.clear();
        for mut row in rows {
            if let Some(old) = known.by_id.get(&row.id) {
                // Newer than what was just read, or the same.
                row.health = old.health.clone();
            }
            known.by_url.insert(row.url.clone(), row.id);
            known.by_id.insert(row.id, Arc::new(row));
        }
        // Under the lock, so that nobody meets a member without its row.
        self.trust.replace(snapshot);
        Ok(())
    }

    /// A request came from this peer.
    pub(crate) fn heard(&self, id: PeerId, now: Timestamp) {
        self.contact(id, |contact| contact.heard = Some(now));
    }

    /// This peer has answered a request of ours.
    pub(crate) fn answered(&self, id: PeerId, now: Timestamp) {
        self.contact(id, |contact| contact.answered = Some(now));
    }

    fn contact(&self, id: PeerId, note: impl FnOnce(&mut Contact)) {
        let mut contacts = self
            .contacts
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        note(contacts.entry(id).or_default());
    }

    /// Writes down the contacts since the last time.
    pub(crate) async fn write_contacts(&self, store: &Store) -> Result<()> {
        let news = std::mem::take(
            &mut *self
                .contacts
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner()),
        );
        for (id, contact) in news {
            store.set_contact(id, contact).await?;
        }
        Ok(())
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

/// A change of the rows of peers.
#[derive(Debug, PartialEq)]
enum Step {
    /// Frees its address, which another one needs; a later step gives it its own.
    Park(PeerId, String),
    /// Gives it this name and address.
    Set(PeerId, Option<String>, PeerUrl),
    /// Makes one.
    Add(String, PeerUrl),
}

impl Step {
    async fn take(&self, store: &Store) -> Result<()> {
        match self {
            Step::Park(id, name) => {
                let nowhere = format!("moving:{}", id.0);
                store.set_peer(*id, Some(name), &nowhere).await
            }
            Step::Set(id, name, url) => store.set_peer(*id, name.as_deref(), url.as_str()).await,
            Step::Add(name, url) => {
                let row = store.add_peer(url).await?;
                store.set_peer(row.id, Some(name), url.as_str()).await
            }
        }
    }
}

/// What it takes that each member has the row of its name, at its address. What a peer is owner of
/// goes by its row, so the row that has its name is the one that moves; only where there is none, one
/// that has its address becomes its own.
fn plan(rows: &[PeerRow], members: &[(&str, &PeerUrl)]) -> Vec<Step> {
    let rows = || rows.iter().filter(|row| row.id != PeerId::SELF);
    // There is more than one only where a process ended in the middle.
    let named = |name: &str, url: &PeerUrl| {
        let mine = || rows().filter(move |row| row.name.as_deref() == Some(name));
        mine().find(|row| row.url == *url).or_else(|| mine().next())
    };
    let moves_away = |row: &PeerRow| {
        members.iter().any(|(name, url)| {
            row.url != **url && named(name, url).is_some_and(|own| own.id == row.id)
        })
    };
    let (mut parked, mut set, mut added) = (Vec::new(), Vec::new(), Vec::new());
    for (name, url) in members {
        let own = named(name, url);
        if own.is_some_and(|row| row.url == **url) {
            continue;
        }
        let name = (*name).to_owned();
        let mut there = rows().find(|row| row.url == **url);
        if let Some(row) = there.filter(|row| moves_away(row)) {
            parked.push(Step::Park(row.id, row.name.clone().unwrap_or_default()));
            there = None;
        }
        match (own, there) {
            (Some(own), None) => set.push(Step::Set(own.id, Some(name), (*url).clone())),
            (None, None) => added.push(Step::Add(name, (*url).clone())),
            (own, Some(there)) => {
                if let Some(former) = there.name.as_deref().filter(|former| *former != name) {
                    tracing::warn!(
                        "peer {name} is at {url} now, where peer {former} was: what is open there is its own from now on"
                    );
                }
                if let Some(own) = own {
                    // Two rows can't become one: a message may be in the inbox of both.
                    tracing::warn!(
                        "peer {name} is at {url} now, which was known before; what is open at {} stays with that address",
                        own.url
                    );
                    set.push(Step::Set(own.id, None, own.url.clone()));
                }
                set.push(Step::Set(there.id, Some(name), (*url).clone()));
            }
        }
    }
    parked.into_iter().chain(set).chain(added).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(host: &str) -> PeerUrl {
        format!("https://{host}/api/queues").parse().unwrap()
    }

    /// Rows from 1 on, behind the one of the peer itself, by name and host.
    fn rows(rows: &[(Option<&str>, &str)]) -> Vec<PeerRow> {
        let all = [(None, "me")].into_iter().chain(rows.iter().copied());
        let row = |(id, (name, host)): (i64, (Option<&str>, &str))| PeerRow {
            id: PeerId(id),
            url: url(host),
            name: name.map(str::to_owned),
            former_url: None,
            health: PeerHealth::default(),
            contact: Contact::default(),
        };
        (0..).zip(all).map(row).collect()
    }

    /// The rows after the plan, by id, as the database has them.
    fn followed(before: &[(Option<&str>, &str)], members: &[(&str, &str)]) -> Vec<(i64, String)> {
        let urls: Vec<_> = members
            .iter()
            .map(|(name, host)| (*name, url(host)))
            .collect();
        let members: Vec<_> = urls.iter().map(|(name, url)| (*name, url)).collect();
        let mut rows = rows(before);
        for step in plan(&rows, &members) {
            match step {
                Step::Park(id, _) => {
                    let row = rows.iter_mut().find(|row| row.id == id).unwrap();
                    row.url = PeerUrl::trusted(format!("moving:{}", id.0));
                }
                Step::Set(id, name, to) => {
                    let taken = rows.iter().any(|row| row.id != id && row.url == to);
                    assert!(!taken, "two rows at {to}");
                    let row = rows.iter_mut().find(|row| row.id == id).unwrap();
                    (row.name, row.url) = (name, to);
                }
                Step::Add(name, to) => {
                    assert!(rows.iter().all(|row| row.url != to), "two rows at {to}");
                    rows.push(PeerRow {
                        id: PeerId(rows.len() as i64),
                        url: to,
                        name: Some(name),
                        former_url: None,
                        health: PeerHealth::default(),
                        contact: Contact::default(),
                    });
                }
            }
        }
        let rows = rows.iter().filter(|row| row.id != PeerId::SELF);
        rows.map(|row| {
            let name = row.name.as_deref().unwrap_or("-");
            let url = row.url.as_str().strip_prefix("https://").unwrap();
            let host = url.strip_suffix("/api/queues").unwrap();
            (row.id.0, format!("{name} {host}"))
        })
        .collect()
    }

    fn at(expected: &[(i64, &str)]) -> Vec<(i64, String)> {
        expected
            .iter()
            .map(|(id, text)| (*id, (*text).to_owned()))
            .collect()
    }

    #[test]
    fn a_new_peer_gets_a_row_and_a_known_one_its_name() {
        let after = followed(&[(None, "a")], &[("a", "a"), ("b", "b")]);
        assert_eq!(after, at(&[(1, "a a"), (2, "b b")]));
        assert_eq!(plan(&rows(&[(Some("a"), "a")]), &[("a", &url("a"))]), []);
    }

    #[test]
    fn a_peer_that_changes_its_address_keeps_its_row() {
        let after = followed(
            &[(Some("a"), "a"), (Some("b"), "b")],
            &[("a", "new"), ("b", "b")],
        );
        assert_eq!(after, at(&[(1, "a new"), (2, "b b")]));
    }

    #[test]
    fn peers_may_take_over_each_others_addresses() {
        let before = [(Some("a"), "a"), (Some("b"), "b")];
        let after = followed(&before, &[("a", "b"), ("b", "a")]);
        assert_eq!(after, at(&[(1, "a b"), (2, "b a")]));
        let after = followed(&before, &[("a", "b"), ("b", "c"), ("d", "a")]);
        assert_eq!(after, at(&[(1, "a b"), (2, "b c"), (3, "d a")]));
    }

    #[test]
    fn a_peer_under_another_name_keeps_the_row_of_its_address() {
        let after = followed(&[(Some("old"), "a")], &[("a", "a")]);
        assert_eq!(after, at(&[(1, "a a")]));
    }

    #[test]
    fn a_peer_that_moves_to_an_address_that_was_known_is_what_is_known_there() {
        let after = followed(&[(Some("a"), "a"), (None, "b")], &[("a", "b")]);
        assert_eq!(after, at(&[(1, "- a"), (2, "a b")]));
    }
}
