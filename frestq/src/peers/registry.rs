//! Who is registered, while this peer serves: what the configuration says, and what was added since.
//!
//! A registration is a row first and takes effect after that, here at once and in the other processes
//! of this peer when they hear of it. The rows of `peers` follow, before the new members do.

use std::sync::Arc;

use tokio::sync::{Mutex, MutexGuard};

use super::{directory::PeerDirectory, reachability::reached};
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

/// Keeps the registered peers.
pub(crate) struct PeerRegistry {
    pub(crate) store: Arc<Store>,
    pub(crate) trust: Arc<Trust>,
    pub(crate) peers: Arc<PeerDirectory>,
    pub(crate) own_url: PeerUrl,
    signals: Arc<Notifier>,
    /// One change at a time.
    turn: Mutex<()>,
}

impl PeerRegistry {
    /// With what the configuration says, and without the rows yet.
    pub(crate) async fn new(
        store: &Arc<Store>,
        trust: Arc<Trust>,
        own_url: PeerUrl,
        signals: Arc<Notifier>,
    ) -> Result<Self> {
        Ok(Self {
            store: store.clone(),
            peers: Arc::new(PeerDirectory::load(store, trust.clone()).await?),
            trust,
            own_url,
            signals,
            turn: Mutex::default(),
        })
    }

    /// Takes in the peers of the database, at the start.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if there are none where some are needed, or some where there can be none.
    pub(crate) async fn begin(&self) -> Result<()> {
        let _turn = self.turn.lock().await;
        let rows = self.store.registrations().await?;
        let count = rows.len();
        let snapshot = self.trust.snapshot().map(|snapshot| snapshot.with(rows));
        check(snapshot.as_ref().map(|snapshot| &snapshot.members), count)?;
        match snapshot {
            Some(snapshot) => self.follow(snapshot).await,
            None => Ok(()),
        }
    }

    /// Begins a change of the registrations in the database: until the guard is dropped, nobody else
    /// begins one.
    pub(crate) async fn change(&self) -> Change<'_> {
        Change {
            registry: self,
            _turn: self.turn.lock().await,
        }
    }

    /// Looks what others have registered.
    pub(crate) async fn look(&self) -> Result<()> {
        let _turn = self.turn.lock().await;
        let Some(snapshot) = self.trust.snapshot() else {
            return Ok(());
        };
        let fresh = self.read(&snapshot).await?;
        if fresh.members.registrations == snapshot.members.registrations {
            return Ok(());
        }
        tracing::info!("peers were registered or taken out by another process");
        self.adopt(fresh).await
    }

    /// Takes over another configuration's certificates and peers, or nothing of it.
    pub(crate) async fn reload(&self, config: &Config) -> Result<()> {
        let _turn = self.turn.lock().await;
        let (Some(old), Some(new)) = (self.trust.snapshot(), TrustSnapshot::load(config)?) else {
            let why = "a peer gets or loses its identity only by a new start";
            return Err(Error::Config(why.to_owned()));
        };
        let new = new.with(old.members.registrations.clone());
        check(Some(&new.members), 0)?;
        self.adopt(new).await
    }

    async fn read(&self, snapshot: &TrustSnapshot) -> Result<TrustSnapshot> {
        Ok(snapshot.with(self.store.registrations().await?))
    }

    /// Puts a standing into effect, with the rows that its members need.
    async fn follow(&self, snapshot: TrustSnapshot) -> Result<()> {
        for (name, why) in &snapshot.members.overruled {
            tracing::warn!(
                "peer {name} of the database is without effect: {why}; --remove-peer {name} takes it out"
            );
        }
        self.peers.follow(&self.store, snapshot).await
    }

    /// Puts another standing into effect, and what waits for members that are different now on its way.
    async fn adopt(&self, snapshot: TrustSnapshot) -> Result<()> {
        let before = self.trust.snapshot();
        self.follow(snapshot).await?;
        let (Some(before), Some(now)) = (before, self.trust.snapshot()) else {
            return Ok(());
        };
        for member in now.members.all() {
            let same = before.members.by_name(&member.name);
            if same.is_some_and(|old| old.is_reached_like(member)) {
                continue;
            }
            if let Some(id) = self.peers.by_url(&member.url) {
                // What failed may have failed for what is changed now.
                self.peers.update(&self.store, id, reached).await?;
                self.signals.wake_outbox(id, WakeReason::PeerIsBack);
            }
        }
        Ok(())
    }
}

/// A change of the registrations: checked, then committed by the caller, then put into effect.
pub(crate) struct Change<'a> {
    registry: &'a PeerRegistry,
    _turn: MutexGuard<'a, ()>,
}

impl Change<'_> {
    /// Whether a peer can be registered; `true`: in the place of an earlier registration of its name.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if this peer has no certificate, [`Error::Invalid`] with the reason.
    pub(crate) async fn check(&self, new: &PeerRegistration) -> Result<bool> {
        let registry = self.registry;
        let snapshot = registry.trust.snapshot().ok_or_else(|| {
            let why = "peers are known by their certificates, and this one needs its own before it can register others; add [tls] certificate = \"NAME.pem\", key = \"NAME.key\" (--new-certificate NAME makes them)";
            Error::Config(why.to_owned())
        })?;
        if new.url == registry.own_url {
            return Err(invalid(new, "the url is the one of this peer"));
        }
        let peer = RegisteredPeer::registered(new).map_err(|why| invalid(new, &why))?;
        let mut others = registry.store.registrations().await?;
        let known = others.len();
        others.retain(|row| row.name != new.name);
        let replaced = others.len() < known;
        match snapshot.members.with(others).clash(&peer) {
            Some(why) => Err(invalid(new, &why)),
            None => Ok(replaced),
        }
    }

    /// Puts the registrations of the database into effect.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if another process has registered the like of `new` at the same moment: then
    /// nothing is in effect yet, and `new` has to be removed again.
    pub(crate) async fn apply(&self, new: Option<&PeerRegistration>) -> Result<()> {
        let registry = self.registry;
        registry.store.tell_of_members().await;
        let Some(snapshot) = registry.trust.snapshot() else {
            return Ok(());
        };
        let snapshot = registry.read(&snapshot).await?;
        if let Some(new) = new {
            let mut overruled = snapshot.members.overruled.iter();
            if let Some((_, why)) = overruled.find(|(name, _)| *name == new.name) {
                return Err(invalid(new, why));
            }
        }
        registry.adopt(snapshot).await
    }

    /// Why there is no registration of this name to remove.
    pub(crate) fn nothing_to_remove(&self, name: &str) -> Error {
        let configured = self.registry.trust.snapshot().is_some_and(|snapshot| {
            let peer = snapshot.members.by_name(name);
            peer.is_some_and(|peer| peer.place == RegisteredIn::Configuration)
        });
        Error::Invalid(match configured {
            true => format!(
                "peer {name:?} is registered in the configuration; take [peers.{name}] out there, and send SIGHUP"
            ),
            false => format!("no peer {name:?} is registered; --peers lists those that are"),
        })
    }
}

fn invalid(new: &PeerRegistration, why: &str) -> Error {
    Error::Invalid(format!("peer {:?}: {why}", new.name))
}

/// Whether a peer with these members, or none in open mode, and so many registrations in its database
/// can serve.
///
/// # Errors
///
/// [`Error::Config`] if there are no peers where some are needed, or some where there can be none.
pub(crate) fn check(members: Option<&PeerSet>, registrations: usize) -> Result<()> {
    let why = match members {
        // A peer that nobody may come in to is not what its operator wants.
        Some(members) if members.is_empty() => {
            "with [tls] only registered peers may come in, and there are none; add [peers.NAME] url = \"https://...\", certificates = [\"sha256:...\"], allow = [\"queue/action\"], or register one with --add-peer NAME URL CERTIFICATE queue/action".to_owned()
        }
        None if registrations > 0 => format!(
            "the database has registered peers, {registrations} of them, and they are known by their certificates, so this peer needs its own; add [tls], or take them out with --remove-peer NAME"
        ),
        _ => return Ok(()),
    };
    Err(Error::Config(why))
}
