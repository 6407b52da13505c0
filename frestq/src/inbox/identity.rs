//! Who sends: the first thing that is asked of a request, before its body is read.

use std::sync::Arc;

use axum::http::HeaderMap;

use super::Refusal;
use crate::{
    model::Fingerprint,
    peer::Frestq,
    trust::{Cause, Member, Standing},
    wire::{
        caller::Caller,
        proxy::{self, Untrusted},
        quota::Counted,
    },
};

/// A sender that may come in.
pub(crate) struct Guest {
    /// The registered peer; none in open mode, where nobody has an identity.
    pub(super) member: Option<Arc<Member>>,
    /// What it has shown; none in open mode.
    pub(super) certificate: Option<Fingerprint>,
    /// Under what he was found to be that.
    standing: Option<Arc<Standing>>,
    /// Counts the request until it is answered.
    _counted: Option<Counted<String>>,
}

/// The registered peer whose certificate the connection has shown. A stranger learns nothing, not even
/// which of his faults it is.
pub(crate) fn identify(
    peer: &Frestq,
    caller: &Caller,
    headers: &HeaderMap,
) -> Result<Guest, Refusal> {
    let refuse = |cause, refusal| {
        peer.0.trust.refusals.note(cause);
        Err(refusal)
    };
    let stranger = || Refusal::new(403, "this connection is not one of a registered peer");
    let caller = match proxy::certificate(peer.0.proxy.as_ref(), caller.address, headers) {
        Ok(None) => caller,
        Ok(Some(shown)) => &caller.clone().showing(vec![shown]),
        Err(Untrusted::NotTheProxy) => {
            return refuse(Cause::NotTheProxy(caller.address), stranger());
        }
        Err(Untrusted::Malformed(why)) => {
            let words = format!("the header with the certificate can't be read: {why}");
            return refuse(Cause::MalformedCertificate(why), Refusal::new(400, words));
        }
    };
    let Some(standing) = peer.0.trust.standing() else {
        return Ok(Guest {
            member: None,
            certificate: None,
            standing: None,
            _counted: None,
        });
    };
    let member = match caller.member(&standing) {
        Ok(member) => member,
        Err(cause) => return refuse(cause, stranger()),
    };
    let counted = match caller.crowded {
        true => None,
        false => peer.0.requests.enter(member.name.clone()),
    };
    if counted.is_none() {
        let cause = Cause::TooMuch(member.name.clone());
        let why = "too many connections or requests of yours at the same time";
        return refuse(cause, Refusal::new(429, why));
    }
    Ok(Guest {
        member: Some(member),
        certificate: caller.certificate(),
        standing: Some(standing),
        _counted: counted,
    })
}

/// The same once the body is there, for which the sender may have taken his time: he may not be registered
/// any more, or no more for the same.
pub(crate) fn identify_again(
    peer: &Frestq,
    caller: &Caller,
    headers: &HeaderMap,
    guest: Guest,
) -> Result<Guest, Refusal> {
    match (&guest.standing, peer.0.trust.standing()) {
        (Some(then), Some(now)) if !Arc::ptr_eq(then, &now) => {
            // Or he would be counted twice.
            drop(guest);
            identify(peer, caller, headers)
        }
        _ => Ok(guest),
    }
}
