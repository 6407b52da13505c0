//! The directory of known peers: the rows of `peers`, cached in memory.

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

/// A write-through cache of the rows of `peers`.
#[derive(Default)]
pub(crate) struct PeerDirectory {
    known: RwLock<Known>,
    trust: Arc<Trust>,
    /// Contacts that are not written yet. A write for each message would cost more than the
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
    /// Loads the rows.
    pub(crate) async fn load(store: &Store, trust: Arc<Trust>) -> Result<Self> {
        let directory = Self {
            trust,
            ..Self::default()
        };
        for row in store.peers().await? {
            directory.put(row);
        }
        Ok(directory)
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

    /// The row with this id, if it is cached.
    pub(crate) fn by_id(&self, id: PeerId) -> Option<Arc<PeerRow>> {
        self.read(|known| known.by_id.get(&id).cloned())
    }

    /// The row with this id. It is read from the database if another process has added it.
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

    /// The row with this id, read from the database, with the changes of other processes.
    pub(crate) async fn read_again(&self, store: &Store, id: PeerId) -> Result<Arc<PeerRow>> {
        let rows = store.peers().await?;
        let row = rows.into_iter().find(|row| row.id == id);
        row.map(|row| self.put(row)).ok_or_else(|| no_row(id))
    }

    /// Whether `url` is the former address of this peer, and not the current one of another.
    /// Messages from before the change still contain it.
    pub(crate) fn was_at(&self, id: PeerId, url: &PeerUrl) -> bool {
        self.read(|known| {
            let row = known.by_id.get(&id);
            let is_former = row.is_some_and(|row| row.former_url.as_ref() == Some(url));
            is_former && !known.by_url.contains_key(url)
        })
    }

    /// The known peer with this address.
    pub(crate) fn by_url(&self, url: &PeerUrl) -> Option<PeerId> {
        self.read(|known| known.by_url.get(url).copied())
    }

    fn read<T>(&self, read: impl FnOnce(&Known) -> T) -> T {
        read(
            &self
                .known
                .read()
                .unwrap_or_else(|poisoned| poisoned.into_inner()),
        )
    }

    /// The peer with this address, added if it is not known yet. In open mode every address can be
    /// added, otherwise only those of registered peers.
    pub(crate) async fn find_or_add(&self, store: &Store, url: &PeerUrl) -> Result<PeerId> {
        let snapshot = self.trust.snapshot();
        if snapshot.is_some_and(|snapshot| snapshot.peers.by_url(url).is_none()) {
            return Err(Error::UnknownPeer(url.clone()));
        }
        match self.by_url(url) {
            Some(id) => Ok(id),
            // Boxed because it is rare: otherwise the future of every message would reserve its
            // size.
            None => Ok(self.put(Box::pin(store.add_peer(url)).await?).id),
        }
    }

    /// Puts a trust snapshot into effect. Before that, each of its peers gets a row with its name.
    /// A peer whose address has changed keeps its row, and with it its tasks.
    pub(crate) async fn apply(&self, store: &Store, snapshot: TrustSnapshot) -> Result<()> {
        let registered = snapshot.peers.all();
        let registered: Vec<_> = registered
            .iter()
            .map(|peer| (peer.name.as_str(), &peer.url))
            .collect();
        let steps = plan(&store.peers().await?, &registered);
        for step in &steps {
            step.execute(store).await?;
        }
        let rows = store.peers().await?;
        let mut known = self
            .known
            .write()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        known.by_url.clear();
        for mut row in rows {
            if let Some(old) = known.by_id.get(&row.id) {
                // The cached health is at least as recent as the row.
                row.health = old.health.clone();
            }
            known.by_url.insert(row.url.clone(), row.id);
            known.by_id.insert(row.id, Arc::new(row));
        }
        // While the lock is held, so that every registered peer has a row for all readers.
        self.trust.replace(snapshot);
        Ok(())
    }

    /// Records that this peer sent a request.
    pub(crate) fn heard(&self, id: PeerId, now: Timestamp) {
        self.contact(id, |contact| contact.heard = Some(now));
    }

    /// Records that this peer answered a request.
    pub(crate) fn answered(&self, id: PeerId, now: Timestamp) {
        self.contact(id, |contact| contact.answered = Some(now));
    }

    fn contact(&self, id: PeerId, record: impl FnOnce(&mut Contact)) {
        let mut contacts = self
            .contacts
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        record(contacts.entry(id).or_default());
    }

    /// Writes the contacts since the last call to the database.
    pub(crate) async fn write_contacts(&self, store: &Store) -> Result<()> {
        let unwritten = std::mem::take(
            &mut *self
                .contacts
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner()),
        );
        for (id, contact) in unwritten {
            store.set_contact(id, contact).await?;
        }
        Ok(())
    }

    /// Changes the health of a peer, and writes it if it differs.
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

    /// Changes the health in memory, atomically, because requests and deliveries change it
    /// concurrently. Returns it if it differs.
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

/// A change of a row of `peers`.
#[derive(Debug, PartialEq)]
enum Step {
    /// Frees the row's address, which another row needs; a later step sets its new one.
    Park(PeerId, String),
    /// Sets the row's name and address.
    Set(PeerId, Option<String>, PeerUrl),
    /// Adds a row.
    Add(String, PeerUrl),
}

impl Step {
    async fn execute(&self, store: &Store) -> Result<()> {
        match self {
            Step::Park(id, name) => {
                let placeholder = format!("moving:{}", id.0);
                store.set_peer(*id, Some(name), &placeholder).await
            }
            Step::Set(id, name, url) => store.set_peer(*id, name.as_deref(), url.as_str()).await,
            Step::Add(name, url) => {
                let row = store.add_peer(url).await?;
                store.set_peer(row.id, Some(name), url.as_str()).await
            }
        }
    }
}

/// The steps after which each registered peer has a row with its name and address. Tasks belong to
/// a peer by its row. So the row with the peer's name gets the new address; only if there is none,
/// the row with its address gets the name.
fn plan(rows: &[PeerRow], registered: &[(&str, &PeerUrl)]) -> Vec<Step> {
    let rows = || rows.iter().filter(|row| row.id != PeerId::SELF);
    // There are several only if a process ended between two steps.
    let named = |name: &str, url: &PeerUrl| {
        let with_name = || rows().filter(move |row| row.name.as_deref() == Some(name));
        with_name()
            .find(|row| row.url == *url)
            .or_else(|| with_name().next())
    };
    let moves_away = |row: &PeerRow| {
        registered.iter().any(|(name, url)| {
            row.url != **url && named(name, url).is_some_and(|own| own.id == row.id)
        })
    };
    let (mut parked, mut set, mut added) = (Vec::new(), Vec::new(), Vec::new());
    for (name, url) in registered {
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
                        target: "frestq::peer",
                        "peer {name} now has the address {url} of the former peer {former}: the open tasks there are its own from now on"
                    );
                }
                if let Some(own) = own {
                    // The rows can't be merged: the inbox of both may have a message with the same
                    // id.
                    tracing::warn!(
                        target: "frestq::peer",
                        "peer {name} now has the address {url}, which was already known; the open tasks at {} stay with that address",
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

    /// Rows by name and host, with ids from 1; the row before them is that of the peer itself.
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

    /// The rows after the planned steps, by id, as in the database.
    fn applied(before: &[(Option<&str>, &str)], registered: &[(&str, &str)]) -> Vec<(i64, String)> {
        let urls: Vec<_> = registered
            .iter()
            .map(|(name, host)| (*name, url(host)))
            .collect();
        let registered: Vec<_> = urls.iter().map(|(name, url)| (*name, url)).collect();
        let mut rows = rows(before);
        for step in plan(&rows, &registered) {
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
        let after = applied(&[(None, "a")], &[("a", "a"), ("b", "b")]);
        assert_eq!(after, at(&[(1, "a a"), (2, "b b")]));
        assert_eq!(plan(&rows(&[(Some("a"), "a")]), &[("a", &url("a"))]), []);
    }

    #[test]
    fn a_peer_that_changes_its_address_keeps_its_row() {
        let after = applied(
            &[(Some("a"), "a"), (Some("b"), "b")],
            &[("a", "new"), ("b", "b")],
        );
        assert_eq!(after, at(&[(1, "a new"), (2, "b b")]));
    }

    #[test]
    fn peers_may_take_over_each_others_addresses() {
        let before = [(Some("a"), "a"), (Some("b"), "b")];
        let after = applied(&before, &[("a", "b"), ("b", "a")]);
        assert_eq!(after, at(&[(1, "a b"), (2, "b a")]));
        let after = applied(&before, &[("a", "b"), ("b", "c"), ("d", "a")]);
        assert_eq!(after, at(&[(1, "a b"), (2, "b c"), (3, "d a")]));
    }

    #[test]
    fn a_peer_under_another_name_keeps_the_row_of_its_address() {
        let after = applied(&[(Some("old"), "a")], &[("a", "a")]);
        assert_eq!(after, at(&[(1, "a a")]));
    }

    #[test]
    fn a_peer_that_moves_to_an_address_that_was_known_is_what_is_known_there() {
        let after = applied(&[(Some("a"), "a"), (None, "b")], &[("a", "b")]);
        assert_eq!(after, at(&[(1, "- a"), (2, "a b")]));
    }
}
