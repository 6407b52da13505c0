//! TLS connections in both directions.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::serve::Listener;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{
    connection::{Connection, ConnectionLimits},
    listen::set_nodelay,
};
use crate::{
    model::{Fingerprint, error::Result},
    security::{
        Trust, TrustSnapshot,
        registered::RegisteredPeer,
        tls::{ExpectedServer, WrongServer},
    },
};

/// The timeout of a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The number of concurrent handshakes. Further connections are dropped, to bound the memory.
const MAX_HANDSHAKES: usize = 2048;
/// A listener for TLS connections. Handshakes run concurrently, so that a slow one delays no
/// other.
pub(crate) struct TlsListener {
    listener: TcpListener,
    trust: Arc<Trust>,
    limits: ConnectionLimits,
    handshakes: JoinSet<Option<(TlsStream<TcpStream>, Connection)>>,
}

impl TlsListener {
    pub(crate) fn new(listener: TcpListener, trust: Arc<Trust>, limits: ConnectionLimits) -> Self {
        Self {
            listener,
            trust,
            limits,
            handshakes: JoinSet::new(),
        }
    }

    fn start_handshake(&mut self, stream: TcpStream, address: SocketAddr) {
        if self.handshakes.len() >= MAX_HANDSHAKES {
            tracing::debug!(target: "frestq::http", %address, "too many concurrent handshakes");
            return;
        }
        let Some(snapshot) = self.trust.snapshot() else {
            return;
        };
        let Some(handshake_guard) = self.limits.begin_handshake(address.ip()) else {
            tracing::debug!(target: "frestq::http", %address, "too many concurrent handshakes with this address");
            return;
        };
        let Some(guard) = self.limits.admit(address.ip()) else {
            return;
        };
        set_nodelay(&stream);
        let limits = self.limits.clone();
        let acceptor = TlsAcceptor::from(snapshot.server.clone());
        let handshake = timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream));
        self.handshakes.spawn(async move {
            let result = handshake.await;
            drop(handshake_guard);
            match result {
                Ok(Ok(stream)) => {
                    let shown = stream.get_ref().1.peer_certificates();
                    let chain = shown.map(<[_]>::to_vec).unwrap_or_default();
                    let connection = limits.connection(address.ip(), chain, guard, Some(&snapshot));
                    Some((stream, connection))
                }
                Ok(Err(error)) => {
                    tracing::debug!(target: "frestq::http", %address, %error, "a handshake failed");
                    None
                }
                Err(_) => {
                    tracing::debug!(target: "frestq::http", %address, "a handshake timed out");
                    None
                }
            }
        });
    }
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = Connection;

    async fn accept(&mut self) -> (TlsStream<TcpStream>, Connection) {
        loop {
            tokio::select! {
                (stream, address) = Listener::accept(&mut self.listener) => self.start_handshake(stream, address),
                Some(done) = self.handshakes.join_next() => {
                    // A panicked handshake counts as a failed one.
                    let Ok(Some(accepted)) = done else { continue };
                    return accepted;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<Connection> {
        Ok(Connection::at(self.listener.local_addr()?.ip()))
    }
}

/// A client that connects to this peer and nobody else.
pub(crate) fn client(
    snapshot: &TrustSnapshot,
    peer: &RegisteredPeer,
    pin: Option<Fingerprint>,
) -> Result<reqwest::ClientBuilder> {
    let tls = snapshot.identity.client(ExpectedServer {
        pins: peer.pins.clone(),
        authority: peer.authority.clone(),
        only: pin,
    })?;
    Ok(reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .https_only(true))
}

/// Whether a request failed because of the pin of its task, which says nothing about the peer.
pub(crate) fn is_pin_mismatch(error: &reqwest::Error) -> bool {
    WrongServer::is_pin_mismatch(error)
}
