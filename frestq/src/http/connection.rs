//! Who is at the other end of a connection, and how many connections he may have.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rustls_pki_types::CertificateDer;

use super::quota::{Quota, QuotaGuard, site};
use crate::{
    config::Limits,
    model::Fingerprint,
    security::{RejectionReason, TrustSnapshot, registered::RegisteredPeer},
};

/// How many handshakes may be under way with one address.
const MOST_HANDSHAKES: usize = 128;

/// For how long somebody is taken for who he was found to be: a certificate that an authority stands by
/// may expire while a connection lasts.
const FOUND_FOR: Duration = Duration::from_secs(60);

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    shown: Option<Arc<Shown>>,
    pub(crate) address: IpAddr,
    /// Whether its peer has as many connections as one may have, without this one.
    pub(crate) crowded: bool,
    /// Whether it is a registered peer, or the proxy, and takes no stranger's place.
    pub(crate) expected: bool,
    /// Whether the connection ends after one request.
    pub(crate) once: bool,
    /// Counts the connection until the last request on it is over.
    _places: Option<Arc<Places>>,
}

type Places = (QuotaGuard<IpAddr>, Option<QuotaGuard<String>>);

/// A member, or why it is none.
type Found = Result<Arc<RegisteredPeer>, RejectionReason>;

/// The certificate whose key the other end holds, and those behind it.
#[derive(Debug)]
struct Shown {
    fingerprint: Fingerprint,
    chain: Vec<CertificateDer<'static>>,
    /// Whose it is, under the standing that said so: it is found out now and then and not for every
    /// request, and again after a reload.
    known: Mutex<Option<(Arc<TrustSnapshot>, Instant, Found)>>,
}

impl Connection {
    /// Somebody at this address, who has not said who he is.
    pub(crate) fn at(address: IpAddr) -> Self {
        Self {
            shown: None,
            address,
            crowded: false,
            expected: false,
            once: false,
            _places: None,
        }
    }

    /// The same, who has shown these certificates, his own first.
    pub(crate) fn showing(self, chain: Vec<CertificateDer<'static>>) -> Self {
        let own = chain.first().map(|own| Fingerprint::of(own));
        let shown = own.map(|fingerprint| {
            Arc::new(Shown {
                fingerprint,
                chain,
                known: Mutex::default(),
            })
        });
        Self { shown, ..self }
    }

    /// The same, who is the proxy, on a connection that may end after one request.
    pub(crate) fn proxy(self, once: bool) -> Self {
        Self {
            once,
            expected: true,
            ..self
        }
    }

    /// Its own certificate.
    pub(crate) fn certificate(&self) -> Option<Fingerprint> {
        self.shown.as_ref().map(|shown| shown.fingerprint)
    }

    /// The registered peer that it is.
    pub(crate) fn member(&self, snapshot: &Arc<TrustSnapshot>) -> Found {
        let Some(shown) = &self.shown else {
            return Err(RejectionReason::NoCertificate);
        };
        let mut known = shown.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((under, at, found)) = &*known
            && Arc::ptr_eq(under, snapshot)
            && at.elapsed() < FOUND_FOR
        {
            return found.clone();
        }
        let found = snapshot.members.identify(&shown.chain);
        *known = Some((snapshot.clone(), Instant::now(), found.clone()));
        found
    }
}

/// How many connections one address, and one peer, may have.
#[derive(Clone)]
pub(crate) struct ConnectionLimits {
    addresses: Arc<Quota<IpAddr>>,
    handshakes: Arc<Quota<IpAddr>>,
    /// By the peer's name.
    members: Arc<Quota<String>>,
}

impl ConnectionLimits {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            addresses: Quota::new(limits.connections_per_address),
            handshakes: Quota::new(MOST_HANDSHAKES),
            members: Quota::new(limits.connections_per_peer),
        }
    }

    /// Another handshake with this address, if it may have one: until it is over, nobody knows who is
    /// there, and many from one place would keep others from showing who they are.
    pub(crate) fn shake(&self, address: IpAddr) -> Option<QuotaGuard<IpAddr>> {
        self.handshakes.enter(site(address))
    }

    /// Another connection from this address, if it may have one.
    pub(crate) fn greet(&self, address: IpAddr) -> Option<QuotaGuard<IpAddr>> {
        let counted = self.addresses.enter(site(address));
        if counted.is_none() {
            tracing::debug!(%address, "too many connections from there");
        }
        counted
    }

    /// The caller of a connection, by the certificates that it has shown.
    pub(crate) fn caller(
        &self,
        address: IpAddr,
        chain: Vec<CertificateDer<'static>>,
        counted: QuotaGuard<IpAddr>,
        snapshot: Option<&Arc<TrustSnapshot>>,
    ) -> Connection {
        let caller = Connection::at(address).showing(chain);
        let member = snapshot.and_then(|snapshot| caller.member(snapshot).ok());
        let place = member.map(|member| self.members.enter(member.name.clone()));
        Connection {
            crowded: matches!(place, Some(None)),
            expected: matches!(place, Some(Some(_))),
            _places: Some(Arc::new((counted, place.flatten()))),
            ..caller
        }
    }
}
