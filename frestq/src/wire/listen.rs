//! Connections that come in, plain or with TLS.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::serve::Listener;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::caller::{Caller, Crowds};
use crate::trust::Trust;

/// How long the other side may take to say who it is.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Handshakes under way. More come from somebody who wants to use up our memory, and are dropped.
const MOST_HANDSHAKES: usize = 2048;

/// Connections without an identity.
pub(crate) struct Plain(pub(crate) TcpListener);

impl Listener for Plain {
    type Io = TcpStream;
    type Addr = Caller;

    async fn accept(&mut self) -> (TcpStream, Caller) {
        let (stream, address) = Listener::accept(&mut self.0).await;
        hurry(&stream);
        (stream, Caller::at(address.ip()))
    }

    fn local_addr(&self) -> io::Result<Caller> {
        Ok(Caller::at(self.0.local_addr()?.ip()))
    }
}

/// Connections that have said who they are. Each does so by itself, so that a slow one holds up
/// nobody.
pub(crate) struct Tls {
    listener: TcpListener,
    trust: Arc<Trust>,
    crowds: Crowds,
    handshakes: JoinSet<Option<(TlsStream<TcpStream>, Caller)>>,
}

impl Tls {
    pub(crate) fn new(listener: TcpListener, trust: Arc<Trust>, crowds: Crowds) -> Self {
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
        let Some(standing) = self.trust.standing() else {
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
        let acceptor = TlsAcceptor::from(standing.server.clone());
        let handshake = timeout(HANDSHAKE, acceptor.accept(stream));
        self.handshakes.spawn(async move {
            let shaken = handshake.await;
            drop(shaking);
            match shaken {
                Ok(Ok(stream)) => {
                    let shown = stream.get_ref().1.peer_certificates();
                    let chain = shown.map(<[_]>::to_vec).unwrap_or_default();
                    let caller = crowds.caller(address.ip(), chain, counted, Some(&standing));
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

impl Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = Caller;

    async fn accept(&mut self) -> (TlsStream<TcpStream>, Caller) {
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

    fn local_addr(&self) -> io::Result<Caller> {
        Ok(Caller::at(self.listener.local_addr()?.ip()))
    }
}

/// Answers are small, and waiting to join them only delays them.
pub(crate) fn hurry(stream: &TcpStream) {
    // It works without, only slower.
    let _ = stream.set_nodelay(true);
}
