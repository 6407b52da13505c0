//! A connection's remote end, its identity, and the limits on connections.

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

/// The number of concurrent handshakes with one address.
const MAX_HANDSHAKES: usize = 128;

/// How long the result of an identification is cached. It can't be for the whole connection,
/// because a certificate may expire meanwhile.
const IDENTIFICATION_TTL: Duration = Duration::from_secs(60);

/// The remote end of a connection: its address and its certificates.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    certificates: Option<Arc<Certificates>>,
    pub(crate) address: IpAddr,
    /// Whether the connection exceeds the limit of its peer.
    pub(crate) over_limit: bool,
    /// Whether it is of a registered peer within its limit, or of the proxy, and so does not count
    /// against the limit of all other connections.
    pub(crate) exempt: bool,
    /// Whether the connection ends after one request.
    pub(crate) close_after_request: bool,
    /// Counts the connection until the last request on it has ended.
    _guards: Option<Arc<Guards>>,
}

type Guards = (QuotaGuard<IpAddr>, Option<QuotaGuard<String>>);

/// The registered peer, or why there is none.
type Identification = Result<Arc<RegisteredPeer>, RejectionReason>;

/// The certificate whose key the remote end holds, with its chain.
#[derive(Debug)]
struct Certificates {
    fingerprint: Fingerprint,
    chain: Vec<CertificateDer<'static>>,
    /// The cached identification, with the snapshot under which it was made and when. A reload of
    /// the trust invalidates it.
    identified: Mutex<Option<(Arc<TrustSnapshot>, Instant, Identification)>>,
}

impl Connection {
    /// A connection from this address, without certificates.
    pub(crate) fn at(address: IpAddr) -> Self {
        Self {
            certificates: None,
            address,
            over_limit: false,
            exempt: false,
            close_after_request: false,
            _guards: None,
        }
    }

    /// The same connection with these certificates, the remote end's own first.
    pub(crate) fn with_certificates(self, chain: Vec<CertificateDer<'static>>) -> Self {
        let own = chain.first().map(|own| Fingerprint::of(own));
        let certificates = own.map(|fingerprint| {
            Arc::new(Certificates {
                fingerprint,
                chain,
                identified: Mutex::default(),
            })
        });
        Self {
            certificates,
            ..self
        }
    }

    /// The same connection as one of the proxy.
    pub(crate) fn of_proxy(self, close_after_request: bool) -> Self {
        Self {
            close_after_request,
            exempt: true,
            ..self
        }
    }

    /// The fingerprint of the remote end's certificate.
    pub(crate) fn certificate(&self) -> Option<Fingerprint> {
        self.certificates.as_ref().map(|shown| shown.fingerprint)
    }

    /// The registered peer at the remote end.
    pub(crate) fn peer(&self, snapshot: &Arc<TrustSnapshot>) -> Identification {
        let Some(certificates) = &self.certificates else {
            return Err(RejectionReason::NoCertificate);
        };
        let mut cached = certificates
            .identified
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some((under, at, identified)) = &*cached
            && Arc::ptr_eq(under, snapshot)
            && at.elapsed() < IDENTIFICATION_TTL
        {
            return identified.clone();
        }
        let identified = snapshot.peers.identify(&certificates.chain);
        *cached = Some((snapshot.clone(), Instant::now(), identified.clone()));
        identified
    }
}

/// The limits on connections and handshakes, by address and by peer.
#[derive(Clone)]
pub(crate) struct ConnectionLimits {
    addresses: Arc<Quota<IpAddr>>,
    handshakes: Arc<Quota<IpAddr>>,
    /// By the name of the peer.
    peers: Arc<Quota<String>>,
}

impl ConnectionLimits {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            addresses: Quota::new(limits.connections_per_address),
            handshakes: Quota::new(MAX_HANDSHAKES),
            peers: Quota::new(limits.connections_per_peer),
        }
    }

    /// Counts a handshake with this address, unless it exceeds the limit. The limit is by address
    /// because the peer is unknown until the handshake ends, and one address could block all
    /// others.
    pub(crate) fn begin_handshake(&self, address: IpAddr) -> Option<QuotaGuard<IpAddr>> {
        self.handshakes.acquire(site(address))
    }

    /// Counts a connection from this address, unless it exceeds the limit.
    pub(crate) fn admit(&self, address: IpAddr) -> Option<QuotaGuard<IpAddr>> {
        let guard = self.addresses.acquire(site(address));
        if guard.is_none() {
            tracing::debug!(target: "frestq::http", %address, "too many connections from this address");
        }
        guard
    }

    /// A connection with these certificates, counted against the limit of its peer.
    pub(crate) fn connection(
        &self,
        address: IpAddr,
        chain: Vec<CertificateDer<'static>>,
        guard: QuotaGuard<IpAddr>,
        snapshot: Option<&Arc<TrustSnapshot>>,
    ) -> Connection {
        let connection = Connection::at(address).with_certificates(chain);
        let peer = snapshot.and_then(|snapshot| connection.peer(snapshot).ok());
        let peer_guard = peer.map(|peer| self.peers.acquire(peer.name.clone()));
        Connection {
            over_limit: matches!(peer_guard, Some(None)),
            exempt: matches!(peer_guard, Some(Some(_))),
            _guards: Some(Arc::new((guard, peer_guard.flatten()))),
            ..connection
        }
    }
}
