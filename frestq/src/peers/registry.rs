//! The registry of peers: the registered peers of the configuration and of the database, and their
//! changes while this peer runs.
//!
//! A registration is first committed as a row and then takes effect, in this process at once and
//! in the peer's other processes when they are notified. The rows of `peers` are updated before
//! that.

use std::sync::Arc;

use tokio::sync::{Mutex, MutexGuard};

use super::{directory::PeerDirectory, reachability::record_success};
use crate::{
    config::Config,
    model::{
        PeerRegistration, PeerUrl,
        error::{Error, Result},
    },
    runtime::notify::{Notifier, WakeReason},
    security::{
        Trust, TrustSnapshot,
        registered::{PeerSet, RegisteredIn, RegisteredPeer},
    },
    store::Store,
};

/// The registered peers, and how to change them.
pub(crate) struct PeerRegistry {
    pub(crate) store: Arc<Store>,
    pub(crate) trust: Arc<Trust>,
    pub(crate) peers: Arc<PeerDirectory>,
    pub(crate) own_url: PeerUrl,
    notifier: Arc<Notifier>,
    /// Held during a change.
    lock: Mutex<()>,
}

impl PeerRegistry {
    /// A registry with the peers of the configuration; [`start`](Self::start) adds those of the
    /// database.
    pub(crate) async fn new(
        store: &Arc<Store>,
        trust: Arc<Trust>,
        own_url: PeerUrl,
        notifier: Arc<Notifier>,
    ) -> Result<Self> {
        Ok(Self {
            store: store.clone(),
            peers: Arc::new(PeerDirectory::load(store, trust.clone()).await?),
            trust,
            own_url,
            notifier,
            lock: Mutex::default(),
        })
    }

    /// Adds the peers of the database and puts the trust into effect.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if `[tls]` is set and there are no peers, or if it is not set and there
    /// are.
    pub(crate) async fn start(&self) -> Result<()> {
        let _guard = self.lock.lock().await;
        let rows = self.store.registrations().await?;
        let count = rows.len();
        let snapshot = self.trust.snapshot().map(|snapshot| snapshot.with(rows));
        check(snapshot.as_ref().map(|snapshot| &snapshot.peers), count)?;
        match snapshot {
            Some(snapshot) => self.apply(snapshot).await,
            None => Ok(()),
        }
    }

    /// Begins a change of the registrations in the database. Other changes wait until the returned
    /// value is dropped.
    pub(crate) async fn change(&self) -> Change<'_> {
        Change {
            registry: self,
            _guard: self.lock.lock().await,
        }
    }

    /// Applies the changes of other processes to the registrations in the database.
    pub(crate) async fn refresh(&self) -> Result<()> {
        let _guard = self.lock.lock().await;
        let Some(snapshot) = self.trust.snapshot() else {
            return Ok(());
        };
        let fresh = self.read(&snapshot).await?;
        if fresh.peers.registrations == snapshot.peers.registrations {
            return Ok(());
        }
        tracing::info!(target: "frestq::peer", "another process has registered or removed peers");
        self.apply_and_wake(fresh).await
    }

    /// Applies the certificates and peers of another configuration, or nothing of it if it is
    /// faulty.
    pub(crate) async fn reload(&self, config: &Config) -> Result<()> {
        let _guard = self.lock.lock().await;
        let (Some(old), Some(new)) = (self.trust.snapshot(), TrustSnapshot::load(config)?) else {
            let why = "[tls] can be added or removed only by a restart";
            return Err(Error::Config(why.to_owned()));
        };
        let new = new.with(old.peers.registrations.clone());
        check(Some(&new.peers), 0)?;
        self.apply_and_wake(new).await
    }

    async fn read(&self, snapshot: &TrustSnapshot) -> Result<TrustSnapshot> {
        Ok(snapshot.with(self.store.registrations().await?))
    }

    /// Puts a snapshot into effect, with the rows that its peers need.
    async fn apply(&self, snapshot: TrustSnapshot) -> Result<()> {
        for (name, why) in &snapshot.peers.ignored {
            tracing::warn!(
                target: "frestq::peer",
                "peer {name} of the database is ignored: {why}; remove it with --remove-peer {name}"
            );
        }
        self.peers.apply(&self.store, snapshot).await
    }

    /// Puts another snapshot into effect, and wakes the deliveries to peers that it changes.
    async fn apply_and_wake(&self, snapshot: TrustSnapshot) -> Result<()> {
        let before = self.trust.snapshot();
        self.apply(snapshot).await?;
        let (Some(before), Some(now)) = (before, self.trust.snapshot()) else {
            return Ok(());
        };
        for peer in now.peers.all() {
            let former = before.peers.by_name(&peer.name);
            if former.is_some_and(|former| former.is_reached_like(peer)) {
                continue;
            }
            if let Some(id) = self.peers.by_url(&peer.url) {
                // Deliveries may have failed because of what has changed now.
                self.peers.update(&self.store, id, record_success).await?;
                self.notifier.wake_outbox(id, WakeReason::PeerIsBack);
            }
        }
        Ok(())
    }
}

/// A change of the registrations: it is checked, then committed by the caller, then put into
/// effect.
pub(crate) struct Change<'a> {
    registry: &'a PeerRegistry,
    _guard: MutexGuard<'a, ()>,
}

impl Change<'_> {
    /// Checks whether a peer can be registered; `true` if that replaces a registration of the same
    /// name.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if this peer has no certificate, [`Error::Invalid`] if the new peer is
    /// not valid or conflicts with another one.
    pub(crate) async fn check(&self, new: &PeerRegistration) -> Result<bool> {
        let registry = self.registry;
        let snapshot = registry.trust.snapshot().ok_or_else(|| {
            let why = "peers are identified by their certificates, and this one needs its own before it can register others; add [tls] certificate = \"NAME.pem\", key = \"NAME.key\" (--new-certificate NAME makes them)";
            Error::Config(why.to_owned())
        })?;
        if new.url == registry.own_url {
            return Err(invalid(new, "the url is this peer's own root_url"));
        }
        let peer = RegisteredPeer::from_row(new).map_err(|why| invalid(new, &why))?;
        let mut others = registry.store.registrations().await?;
        let count = others.len();
        others.retain(|row| row.name != new.name);
        let replaced = others.len() < count;
        match snapshot.peers.with(others).conflict(&peer) {
            Some(why) => Err(invalid(new, &why)),
            None => Ok(replaced),
        }
    }

    /// Puts the registrations of the database into effect.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if another process has registered a conflicting peer at the same time.
    /// Then the change has no effect, and the caller must remove `new` again.
    pub(crate) async fn apply(&self, new: Option<&PeerRegistration>) -> Result<()> {
        let registry = self.registry;
        registry.store.tell_of_members().await;
        let Some(snapshot) = registry.trust.snapshot() else {
            return Ok(());
        };
        let snapshot = registry.read(&snapshot).await?;
        if let Some(new) = new {
            let mut ignored = snapshot.peers.ignored.iter();
            if let Some((_, why)) = ignored.find(|(name, _)| *name == new.name) {
                return Err(invalid(new, why));
            }
        }
        registry.apply_and_wake(snapshot).await
    }

    /// The error for a removal of a name that the database does not have.
    pub(crate) fn nothing_to_remove(&self, name: &str) -> Error {
        let configured = self.registry.trust.snapshot().is_some_and(|snapshot| {
            let peer = snapshot.peers.by_name(name);
            peer.is_some_and(|peer| peer.registered_in == RegisteredIn::Configuration)
        });
        Error::Invalid(match configured {
            true => format!(
                "peer {name:?} is registered in the configuration; remove [peers.{name}] from it and send SIGHUP"
            ),
            false => format!("no peer {name:?} is registered; --peers lists those that are"),
        })
    }
}

fn invalid(new: &PeerRegistration, why: &str) -> Error {
    Error::Invalid(format!("peer {:?}: {why}", new.name))
}

/// Checks that a peer can serve with these registered peers, `None` in open mode, and this number
/// of registrations in its database.
///
/// # Errors
///
/// [`Error::Config`] if `[tls]` is set and there are no peers, or if it is not set and there are.
pub(crate) fn check(peers: Option<&PeerSet>, registrations: usize) -> Result<()> {
    let why = match peers {
        // A peer that rejects every message is not what its operator intends.
        Some(peers) if peers.is_empty() => {
            "with [tls] only registered peers may connect, and there are none; add [peers.NAME] url = \"https://...\", certificates = [\"sha256:...\"], allow = [\"queue/action\"], or register one with --add-peer NAME URL CERTIFICATE queue/action".to_owned()
        }
        None if registrations > 0 => format!(
            "the database has {registrations} registered peers, which are identified by their certificates, so this peer needs its own; add [tls], or remove them with --remove-peer NAME"
        ),
        _ => return Ok(()),
    };
    Err(Error::Config(why))
}
