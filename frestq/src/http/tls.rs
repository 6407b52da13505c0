//! Connections with TLS, in both directions.

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
    listen::hurry,
};
use crate::{
    model::{Fingerprint, error::Result},
    security::{
        Trust, TrustSnapshot,
        registered::RegisteredPeer,
        tls::{Expected, WrongServer},
    },
};

/// How long the other side may take to say who it is.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Handshakes under way. More come from somebody who wants to use up our memory, and are dropped.
const MOST_HANDSHAKES: usize = 2048;

/// Connections that have said who they are. Each does so by itself, so that a slow one holds up
/// nobody.
pub(crate) struct TlsListener {
    listener: TcpListener,
    trust: Arc<Trust>,
    crowds: ConnectionLimits,
    handshakes: JoinSet<Option<(TlsStream<TcpStream>, Connection)>>,
}

impl TlsListener {
    pub(crate) fn new(listener: TcpListener, trust: Arc<Trust>, crowds: ConnectionLimits) -> Self {
        Self {
            listener,
            trust,
            crowds,
            handshakes: JoinSet::new(),
        }
    }

    fn greet(&mut self, stream: TcpStream, address: SocketAddr) {
        if self.handshakes.len() >= MOST_HANDSHAKES {
            tracing::debug!(%address, "too many handshakes are under way");
            return;
        }
        let Some(snapshot) = self.trust.snapshot() else {
            return;
        };
        let Some(shaking) = self.crowds.shake(address.ip()) else {
            tracing::debug!(%address, "too many handshakes with it are under way");
            return;
        };
        let Some(counted) = self.crowds.greet(address.ip()) else {
            return;
        };
        hurry(&stream);
        let crowds = self.crowds.clone();
        let acceptor = TlsAcceptor::from(snapshot.server.clone());
        let handshake = timeout(HANDSHAKE, acceptor.accept(stream));
        self.handshakes.spawn(async move {
            let shaken = handshake.await;
            drop(shaking);
            match shaken {
                Ok(Ok(stream)) => {
                    let shown = stream.get_ref().1.peer_certificates();
                    let chain = shown.map(<[_]>::to_vec).unwrap_or_default();
                    let caller = crowds.caller(address.ip(), chain, counted, Some(&snapshot));
                    Some((stream, caller))
                }
                Ok(Err(error)) => {
                    tracing::debug!(%address, %error, "a handshake failed");
                    None
                }
                Err(_) => {
                    tracing::debug!(%address, "a handshake took too long");
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
                (stream, address) = Listener::accept(&mut self.listener) => self.greet(stream, address),
                Some(done) = self.handshakes.join_next() => {
                    // One that panicked is one that failed.
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
    let tls = snapshot.identity.client(Expected {
        pins: peer.pins.clone(),
        authority: peer.authority.clone(),
        only: pin,
    })?;
    Ok(reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .https_only(true))
}

/// Whether a request failed for the pin of its task, and says nothing of the peer.
pub(crate) fn missed_the_pin(error: &reqwest::Error) -> bool {
    WrongServer::missed_the_pin(error)
}
