//! The listener for plain connections.

use std::io;

use axum::serve::Listener;
use tokio::net::{TcpListener, TcpStream};

use super::connection::Connection;

/// A listener for connections without TLS.
pub(crate) struct PlainListener(pub(crate) TcpListener);

impl Listener for PlainListener {
    type Io = TcpStream;
    type Addr = Connection;

    async fn accept(&mut self) -> (TcpStream, Connection) {
        let (stream, address) = Listener::accept(&mut self.0).await;
        set_nodelay(&stream);
        (stream, Connection::at(address.ip()))
    }

    fn local_addr(&self) -> io::Result<Connection> {
        Ok(Connection::at(self.0.local_addr()?.ip()))
    }
}

/// Disables Nagle's algorithm: responses are small and would only be delayed.
pub(crate) fn set_nodelay(stream: &TcpStream) {
    // A failure makes the connection slower, but not wrong.
    let _ = stream.set_nodelay(true);
}
