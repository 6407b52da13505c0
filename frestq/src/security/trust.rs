//! Who this peer is, and who the others are: `[tls]` and `[peers]` of the configuration with the files
//! they name, and the peers that were registered since.
//!
//! An identity is the SHA-256 of the certificate that a connection shows and whose key it proves to
//! hold. Names, dates and chains of certificates don't matter, since each certificate is registered by
//! itself. They do matter for a peer that is registered with authorities.

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

/// Who this peer is and who the others are, as it was last read.
#[derive(Debug)]
pub(crate) struct TrustSnapshot {
    pub(crate) members: PeerSet,
    pub(crate) identity: Arc<Identity>,
    /// How this peer answers those who connect to it.
    pub(crate) server: Arc<ServerConfig>,
}

impl TrustSnapshot {
    /// Reads the files that the configuration names; none in open mode.
    pub(crate) fn load(config: &Config) -> Result<Option<Self>> {
        let Some(identity) = Identity::load(&config.tls)? else {
            return Ok(None);
        };
        Ok(Some(Self {
            members: PeerSet::load(&config.peers)?,
            server: Arc::new(identity.server()?),
            identity: Arc::new(identity),
        }))
    }

    /// The same, with these peers of the database.
    pub(crate) fn with(&self, registrations: Vec<PeerRegistration>) -> Self {
        Self {
            members: self.members.with(registrations),
            identity: self.identity.clone(),
            server: self.server.clone(),
        }
    }
}

/// Whom this peer trusts with what: everybody on its own machine, or its members.
#[derive(Debug, Default)]
pub(crate) struct Trust {
    snapshot: Option<RwLock<Arc<TrustSnapshot>>>,
    pub(crate) rejections: RejectionLog,
}

impl Trust {
    /// What the configuration says, without the peers of the database.
    pub(crate) fn load(config: &Config) -> Result<Self> {
        Ok(Self {
            snapshot: TrustSnapshot::load(config)?.map(|snapshot| RwLock::new(Arc::new(snapshot))),
            rejections: RejectionLog::default(),
        })
    }

    /// What is in effect at this moment; none in open mode.
    pub(crate) fn snapshot(&self) -> Option<Arc<TrustSnapshot>> {
        let snapshot = self.snapshot.as_ref()?;
        let read = snapshot
            .read()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        Some(read.clone())
    }

    /// Puts another one into effect. In open mode there is none to be replaced.
    pub(crate) fn replace(&self, new: TrustSnapshot) {
        if let Some(snapshot) = &self.snapshot {
            *snapshot
                .write()
                .unwrap_or_else(|poisoned| poisoned.into_inner()) = Arc::new(new);
        }
    }
}
