//! Connections that come in without TLS.

use std::io;

use axum::serve::Listener;
use tokio::net::{TcpListener, TcpStream};

use super::connection::Connection;

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

/// Answers are small, and waiting to join them only delays them.
pub(crate) fn hurry(stream: &TcpStream) {
    // It works without, only slower.
    let _ = stream.set_nodelay(true);
}
