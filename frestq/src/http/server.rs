//! The HTTP server: like `axum::serve`, but with limits on connections and idle times, because any
//! client that can reach the port could otherwise keep connections open indefinitely.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::ConnectInfo,
    http::{HeaderValue, header::CONNECTION},
    serve::Listener,
};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tower_service::Service;

use super::connection::Connection;

/// How long a connection may be idle, or take to send the headers of a request. Clients of this
/// crate close idle connections earlier, so that the server closes none while a message is being
/// sent.
pub(crate) const IDLE: Duration = Duration::from_secs(60);

/// The maximum size of a request's head, and of a connection's read buffer.
const MAX_HEAD: usize = 64 * 1024;

/// Limits on connections that are not exempt.
pub(crate) struct ServerLimits {
    pub(crate) connections: usize,
    pub(crate) idle: Duration,
    /// Whether a connection beyond the limit waits, and with it all that come later, or is closed.
    pub(crate) wait: bool,
}

/// Serves until `stopping` becomes true, and then until every request is answered.
pub(crate) async fn serve<L>(
    mut listener: L,
    router: Router,
    limits: ServerLimits,
    mut stopping: watch::Receiver<bool>,
) where
    L: Listener<Addr = Connection>,
{
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(limits.idle)
        .max_buf_size(MAX_HEAD);
    let permits = Arc::new(Semaphore::new(limits.connections));
    let graceful = GracefulShutdown::new();
    loop {
        let (stream, remote, permit) = tokio::select! {
            next = next(&mut listener, &permits, limits.wait) => next,
            _ = stopping.wait_for(|stop| *stop) => break,
        };
        let router = router.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            let close_after_request = remote.close_after_request;
            request.extensions_mut().insert(ConnectInfo(remote.clone()));
            let answer = router.clone().call(request);
            async move {
                let mut answer = answer.await;
                if close_after_request && let Ok(answer) = &mut answer {
                    let close = HeaderValue::from_static("close");
                    answer.headers_mut().insert(CONNECTION, close);
                }
                answer
            }
        });
        let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(target: "frestq::http", %error, "a connection failed");
            }
            drop(permit);
        });
    }
    drop(listener);
    graceful.shutdown().await;
}

/// The next connection within the limits. Exempt connections don't need a permit, so other clients
/// can't displace them.
async fn next<L: Listener<Addr = Connection>>(
    listener: &mut L,
    permits: &Arc<Semaphore>,
    wait: bool,
) -> (L::Io, Connection, Option<OwnedSemaphorePermit>) {
    loop {
        let (stream, connection) = listener.accept().await;
        if connection.exempt {
            return (stream, connection, None);
        }
        let permits = permits.clone();
        // The semaphore is never closed.
        let permit = match wait {
            true => permits.acquire_owned().await.ok(),
            false => permits.try_acquire_owned().ok(),
        };
        match permit {
            Some(permit) => return (stream, connection, Some(permit)),
            None => tracing::debug!(
                target: "frestq::http",
                address = %connection.address,
                "too many connections that are not from registered peers"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::http::listen::PlainListener;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

    async fn server(connections: usize) -> (std::net::SocketAddr, watch::Sender<bool>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopping) = watch::channel(false);
        let router = Router::new().route("/", get(|| async { "here" }));
        let limits = ServerLimits {
            connections,
            idle: Duration::from_millis(200),
            wait: true,
        };
        tokio::spawn(serve(PlainListener(listener), router, limits, stopping));
        (address, stop)
    }

    /// The responses until the server closes the connection.
    async fn read_all(mut stream: TcpStream) -> String {
        let mut bytes = Vec::new();
        let read = stream.read_to_end(&mut bytes);
        let read = tokio::time::timeout(Duration::from_secs(30), read).await;
        // The server may also reset the connection.
        let _ = read.expect("the server closes the connection");
        String::from_utf8(bytes).unwrap()
    }

    #[tokio::test]
    async fn an_idle_connection_is_closed() {
        let (address, _stop) = server(10).await;
        for beginning in [
            &b""[..],
            b"GET / HT",
            b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ",
        ] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(beginning).await.unwrap();
            assert!(!read_all(stream).await.contains("here"));
        }
        // Also after an answered request.
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(REQUEST).await.unwrap();
        assert!(read_all(stream).await.ends_with("here"));
    }

    #[tokio::test]
    async fn a_connection_beyond_the_limit_waits_for_one_to_end() {
        let (address, _stop) = server(1).await;
        let idle = TcpStream::connect(address).await.unwrap();
        let mut second = TcpStream::connect(address).await.unwrap();
        second.write_all(REQUEST).await.unwrap();
        // It is served once the first one has been closed because it was idle.
        assert!(read_all(second).await.ends_with("here"));
        assert_eq!(read_all(idle).await, "");
    }

    #[tokio::test]
    async fn ten_thousand_headers_are_rejected() {
        let (address, _stop) = server(10).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        let mut request = REQUEST[..REQUEST.len() - 2].to_vec();
        for n in 0..10_000 {
            request.extend(format!("X-{n}: y\r\n").bytes());
        }
        // The server may close the connection before all of it is sent.
        let _ = stream.write_all(&request).await;
        assert!(!read_all(stream).await.contains("here"));
    }
}
