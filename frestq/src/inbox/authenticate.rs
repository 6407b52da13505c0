//! Who sends: the first thing that is asked of a request, before its body is read.

use std::sync::Arc;

use axum::http::HeaderMap;

use super::response::Rejection;
use crate::{
    http::{
        connection::Connection,
        proxy::{self, Untrusted},
        quota::QuotaGuard,
    },
    model::Fingerprint,
    security::{RejectionReason, TrustSnapshot, registered::RegisteredPeer},
    services::Services,
};

/// A sender that may come in.
pub(crate) struct Authenticated {
    /// The registered peer; none in open mode, where nobody has an identity.
    pub(super) member: Option<Arc<RegisteredPeer>>,
    /// What it has shown; none in open mode.
    pub(super) certificate: Option<Fingerprint>,
    /// Under what he was found to be that.
    snapshot: Option<Arc<TrustSnapshot>>,
    /// Counts the request until it is answered.
    _counted: Option<QuotaGuard<String>>,
}

/// The registered peer whose certificate the connection has shown. A stranger learns nothing, not even
/// which of his faults it is.
pub(crate) fn identify(
    services: &Services,
    caller: &Connection,
    headers: &HeaderMap,
) -> Result<Authenticated, Rejection> {
    let refuse = |cause, rejection| {
        services.trust.rejections.note(cause);
        Err(rejection)
    };
    let stranger = || Rejection::new(403, "this connection is not one of a registered peer");
    let caller = match proxy::certificate(services.proxy.as_ref(), caller.address, headers) {
        Ok(None) => caller,
        Ok(Some(shown)) => &caller.clone().showing(vec![shown]),
        Err(Untrusted::NotTheProxy) => {
            return refuse(RejectionReason::NotTheProxy(caller.address), stranger());
        }
        Err(Untrusted::Malformed(why)) => {
            let words = format!("the header with the certificate can't be read: {why}");
            return refuse(
                RejectionReason::MalformedCertificate(why),
                Rejection::new(400, words),
            );
        }
    };
    let Some(snapshot) = services.trust.snapshot() else {
        // Our own listener is on the loopback then; a server that our router is nested in may not be.
        if !caller.address.to_canonical().is_loopback() {
            let why = "without [tls] and [peers] this peer serves its own machine only";
            return refuse(
                RejectionReason::NotThisMachine(caller.address),
                Rejection::new(403, why),
            );
        }
        return Ok(Authenticated {
            member: None,
            certificate: None,
            snapshot: None,
            _counted: None,
        });
    };
    let member = match caller.member(&snapshot) {
        Ok(member) => member,
        Err(cause) => return refuse(cause, stranger()),
    };
    let counted = match caller.crowded {
        true => None,
        false => services.requests.enter(member.name.clone()),
    };
    if counted.is_none() {
        let cause = RejectionReason::TooMuch(member.name.clone());
        let why = "too many connections or requests of yours at the same time";
        return refuse(cause, Rejection::new(429, why));
    }
    Ok(Authenticated {
        member: Some(member),
        certificate: caller.certificate(),
        snapshot: Some(snapshot),
        _counted: counted,
    })
}

/// The same once the body is there, for which the sender may have taken his time: he may not be registered
/// any more, or no more for the same.
pub(crate) fn identify_again(
    services: &Services,
    caller: &Connection,
    headers: &HeaderMap,
    guest: Authenticated,
) -> Result<Authenticated, Rejection> {
    match (&guest.snapshot, services.trust.snapshot()) {
        (Some(then), Some(now)) if !Arc::ptr_eq(then, &now) => {
            // Or he would be counted twice.
            drop(guest);
            identify(services, caller, headers)
        }
        _ => Ok(guest),
    }
}
