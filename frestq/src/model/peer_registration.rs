//! Registrations of peers in the database.

use serde::{Deserialize, Serialize};

use super::{Fingerprint, PeerUrl};

/// The row of a peer that is registered in the database, and not in the configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PeerRegistration {
    pub(crate) name: String,
    pub(crate) url: PeerUrl,
    /// The certificates that it may show.
    pub(crate) certificates: Vec<Fingerprint>,
    /// The certificates of its authorities, in PEM.
    pub(crate) ca: Option<String>,
    /// The grants: what it may send to this peer.
    pub(crate) allow: Vec<String>,
    /// Whether its host name may resolve to a private address.
    #[serde(default)]
    pub(crate) private: bool,
}

/// A change of the registrations.
#[derive(Clone, Debug)]
pub(crate) enum PeerChange {
    /// Registers a peer, in place of an earlier registration with this name.
    Add(Box<PeerRegistration>),
    /// Removes the registration with this name.
    Remove(String),
}
