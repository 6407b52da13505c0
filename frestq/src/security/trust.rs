//! The trust in effect: this peer's identity and the registered peers, from `[tls]` and `[peers]`
//! of the configuration with the files they name, and from the database.
//!
//! An identity is the SHA-256 of the certificate that a connection presents and whose key it
//! proves to hold. Names, dates and chains are not checked, since each certificate is registered
//! individually. They are checked for a peer that is registered with authorities.

use std::sync::{Arc, RwLock};

use super::{
    registered::PeerSet,
    rejections::RejectionLog,
    tls::{Identity, ServerConfig},
};
use crate::{
    config::Config,
    model::{PeerRegistration, error::Result},
};

/// A consistent state of the trust: this peer's identity and the registered peers.
#[derive(Debug)]
pub(crate) struct TrustSnapshot {
    pub(crate) peers: PeerSet,
    pub(crate) identity: Arc<Identity>,
    /// The TLS configuration of this peer's listener.
    pub(crate) server: Arc<ServerConfig>,
}

impl TrustSnapshot {
    /// Reads the files that the configuration names; `None` in open mode.
    pub(crate) fn load(config: &Config) -> Result<Option<Self>> {
        let Some(identity) = Identity::load(&config.tls)? else {
            return Ok(None);
        };
        Ok(Some(Self {
            peers: PeerSet::load(&config.peers)?,
            server: Arc::new(identity.server()?),
            identity: Arc::new(identity),
        }))
    }

    /// The same snapshot, with these peers of the database instead of the former ones.
    pub(crate) fn with(&self, registrations: Vec<PeerRegistration>) -> Self {
        Self {
            peers: self.peers.with(registrations),
            identity: self.identity.clone(),
            server: self.server.clone(),
        }
    }
}

/// The current [`TrustSnapshot`], or open mode, in which every sender on the loopback is trusted.
#[derive(Debug, Default)]
pub(crate) struct Trust {
    snapshot: Option<RwLock<Arc<TrustSnapshot>>>,
    pub(crate) rejections: RejectionLog,
}

impl Trust {
    /// The trust of the configuration, without the peers of the database.
    pub(crate) fn load(config: &Config) -> Result<Self> {
        Ok(Self {
            snapshot: TrustSnapshot::load(config)?.map(|snapshot| RwLock::new(Arc::new(snapshot))),
            rejections: RejectionLog::default(),
        })
    }

    /// The snapshot in effect; `None` in open mode.
    pub(crate) fn snapshot(&self) -> Option<Arc<TrustSnapshot>> {
        let snapshot = self.snapshot.as_ref()?;
        let current = snapshot
            .read()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        Some(current.clone())
    }

    /// Puts another snapshot into effect. In open mode it does nothing.
    pub(crate) fn replace(&self, new: TrustSnapshot) {
        if let Some(snapshot) = &self.snapshot {
            *snapshot
                .write()
                .unwrap_or_else(|poisoned| poisoned.into_inner()) = Arc::new(new);
        }
    }
}
