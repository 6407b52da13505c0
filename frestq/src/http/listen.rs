//! Connections that come in, plain or with TLS.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::serve::Listener;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::connection::{Connection, ConnectionLimits};
use crate::security::Trust;

/// How long the other side may take to say who it is.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Handshakes under way. More come from somebody who wants to use up our memory, and are dropped.
const MOST_HANDSHAKES: usize = 2048;

/// Connections without an identity.
pub(crate) struct PlainListener(pub(crate) TcpListener);

impl Listener for PlainListener {
    type Io = TcpStream;
    type Addr = Connection;

    async fn accept(&mut self) -> (TcpStream, Connection) {
        let (stream, address) = Listener::accept(&mut self.0).await;
        hurry(&stream);
        (stream, Connection::at(address.ip()))
    }

    fn local_addr(&self) -> io::Result<Connection> {
        Ok(Connection::at(self.0.local_addr()?.ip()))
    }
}

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

/// Answers are small, and waiting to join them only delays them.
pub(crate) fn hurry(stream: &TcpStream) {
    // It works without, only slower.
    let _ = stream.set_nodelay(true);
}
