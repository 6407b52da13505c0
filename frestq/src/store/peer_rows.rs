//! What the database knows of a peer.

use jiff::Timestamp;

use crate::model::{PeerId, PeerUrl};

/// A peer's row.
#[derive(Clone, Debug)]
pub(crate) struct PeerRow {
    pub(crate) id: PeerId,
    pub(crate) url: PeerUrl,
    /// Its address before the last change.
    pub(crate) former_url: Option<PeerUrl>,
    /// Which registered peer it is.
    pub(crate) name: Option<String>,
    pub(crate) health: PeerHealth,
    pub(crate) contact: Contact,
}

/// When a peer and we last heard of each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Contact {
    /// The last request that came from it.
    pub(crate) heard: Option<Timestamp>,
    /// Its last answer to a request of this peer.
    pub(crate) answered: Option<Timestamp>,
}

/// What is remembered of a peer's reachability.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct PeerHealth {
    /// It has shown that it reads `frestq.batch` and `ext`.
    pub(crate) extensions: bool,
    /// Transport failures in a row.
    pub(crate) failures: i64,
    /// The breaker is open until then.
    pub(crate) probe_at: Option<Timestamp>,
    pub(crate) last_error: Option<String>,
}
