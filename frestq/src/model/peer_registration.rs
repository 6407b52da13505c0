//! A peer that was registered while this one ran.

use serde::{Deserialize, Serialize};

use super::{Fingerprint, PeerUrl};

/// The row of a peer that is registered in the database, and not in the configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PeerRegistration {
    pub(crate) name: String,
    pub(crate) url: PeerUrl,
    /// The certificates it may show.
    pub(crate) certificates: Vec<Fingerprint>,
    /// The certificates of authorities that vouch for it, in PEM.
    pub(crate) ca: Option<String>,
    /// The tasks it may hand to us.
    pub(crate) allow: Vec<String>,
    /// Whether its name may stand for a private address.
    #[serde(default)]
    pub(crate) private: bool,
}

/// A change of the registrations in the database.
#[derive(Clone, Debug)]
pub(crate) enum PeerChange {
    /// Registers a peer, in the place of an earlier registration of its name.
    Add(Box<PeerRegistration>),
    /// Removes the registration of this name.
    Remove(String),
}
