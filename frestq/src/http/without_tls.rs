//! Stands in for `tls` where that feature is off: no peer is registered, and no task is pinned.

use crate::{
    model::{Fingerprint, error::Result},
    security::{TrustSnapshot, registered::RegisteredPeer},
};

/// A client that connects to this peer and nobody else, of which there is none.
pub(crate) fn client(
    snapshot: &TrustSnapshot,
    _: &RegisteredPeer,
    _: Option<Fingerprint>,
) -> Result<reqwest::ClientBuilder> {
    match *snapshot.identity {}
}

/// Whether a request failed for the pin of its task.
pub(crate) fn is_pin_mismatch(_: &reqwest::Error) -> bool {
    false
}
