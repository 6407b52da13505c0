//! Authentication of the sender, before the body of a request is read.

use std::sync::Arc;

use axum::http::HeaderMap;

use super::response::Rejection;
use crate::{
    http::{
        connection::Connection,
        proxy::{self, HeaderError},
        quota::QuotaGuard,
    },
    model::Fingerprint,
    security::{RejectionReason, TrustSnapshot, registered::RegisteredPeer},
    services::Services,
};

/// An authenticated sender.
pub(crate) struct Authenticated {
    /// The registered peer; `None` in open mode.
    pub(super) peer: Option<Arc<RegisteredPeer>>,
    /// The certificate that it has shown; `None` in open mode.
    pub(super) certificate: Option<Fingerprint>,
    /// The snapshot under which it was authenticated.
    snapshot: Option<Arc<TrustSnapshot>>,
    /// Counts the request until it is answered.
    _guard: Option<QuotaGuard<String>>,
}

/// Authenticates the sender by its certificate. The response to an unknown sender does not tell
/// why it was rejected.
pub(crate) fn authenticate(
    services: &Services,
    connection: &Connection,
    headers: &HeaderMap,
) -> Result<Authenticated, Rejection> {
    let reject = |reason, rejection| {
        services.trust.rejections.record(reason);
        Err(rejection)
    };
    let unknown_sender = || Rejection::new(403, "this connection is not one of a registered peer");
    let connection = match proxy::certificate(services.proxy.as_ref(), connection.address, headers)
    {
        Ok(None) => connection,
        Ok(Some(shown)) => &connection.clone().with_certificates(vec![shown]),
        Err(HeaderError::NotTheProxy) => {
            return reject(
                RejectionReason::NotTheProxy(connection.address),
                unknown_sender(),
            );
        }
        Err(HeaderError::Malformed(why)) => {
            let words = format!("the header with the certificate can't be read: {why}");
            return reject(
                RejectionReason::MalformedCertificate(why),
                Rejection::new(400, words),
            );
        }
    };
    let Some(snapshot) = services.trust.snapshot() else {
        // This peer's own listener is on the loopback then, but an embedding server may not be.
        if !connection.address.to_canonical().is_loopback() {
            let why = "without [tls] and [peers] this peer serves the loopback only";
            return reject(
                RejectionReason::NotLoopback(connection.address),
                Rejection::new(403, why),
            );
        }
        return Ok(Authenticated {
            peer: None,
            certificate: None,
            snapshot: None,
            _guard: None,
        });
    };
    let peer = match connection.peer(&snapshot) {
        Ok(peer) => peer,
        Err(reason) => return reject(reason, unknown_sender()),
    };
    let guard = match connection.over_limit {
        true => None,
        false => services.requests.acquire(peer.name.clone()),
    };
    if guard.is_none() {
        let reason = RejectionReason::LimitExceeded(peer.name.clone());
        let why = "your peer has too many concurrent connections or requests";
        return reject(reason, Rejection::new(429, why));
    }
    Ok(Authenticated {
        peer: Some(peer),
        certificate: connection.certificate(),
        snapshot: Some(snapshot),
        _guard: guard,
    })
}

/// Authenticates again once the body has arrived, if the registrations have changed since: the
/// sender may no longer be registered, or with other grants.
pub(crate) fn authenticate_again(
    services: &Services,
    connection: &Connection,
    headers: &HeaderMap,
    authenticated: Authenticated,
) -> Result<Authenticated, Rejection> {
    match (&authenticated.snapshot, services.trust.snapshot()) {
        (Some(then), Some(now)) if !Arc::ptr_eq(then, &now) => {
            // Otherwise the request would be counted twice.
            drop(authenticated);
            authenticate(services, connection, headers)
        }
        _ => Ok(authenticated),
    }
}
