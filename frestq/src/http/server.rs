//! The HTTP server: `axum::serve` with limits, since whoever can reach the port may hold on to
//! connections for as long as he is let.

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

/// How long a connection may be without a request, or take to send the headers of one. Our own
/// clients let go of idle ones earlier, so that none is closed under a message.
pub(crate) const IDLE: Duration = Duration::from_secs(60);

/// The longest head of a request, and what is read of a body at once: what a connection can hold on to.
const LONGEST_HEAD: usize = 64 * 1024;

/// What strangers may take up.
pub(crate) struct ServerLimits {
    pub(crate) connections: usize,
    pub(crate) idle: Duration,
    /// Whether one more waits with the system, which keeps everybody else waiting too, or is closed.
    pub(crate) wait: bool,
}

/// Serves until it is told to stop, and then until every request is answered.
pub(crate) async fn serve<L>(
    mut listener: L,
    router: Router,
    bounds: ServerLimits,
    mut stopping: watch::Receiver<bool>,
) where
    L: Listener<Addr = Connection>,
{
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(bounds.idle)
        .max_buf_size(LONGEST_HEAD);
    let room = Arc::new(Semaphore::new(bounds.connections));
    let graceful = GracefulShutdown::new();
    loop {
        let (stream, caller, permit) = tokio::select! {
            next = next(&mut listener, &room, bounds.wait) => next,
            _ = stopping.wait_for(|stop| *stop) => break,
        };
        let router = router.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            let once = caller.once;
            let caller = ConnectInfo(caller.clone());
            request.extensions_mut().insert(caller);
            let answer = router.clone().call(request);
            async move {
                let mut answer = answer.await;
                if once && let Ok(answer) = &mut answer {
                    let close = HeaderValue::from_static("close");
                    answer.headers_mut().insert(CONNECTION, close);
                }
                answer
            }
        });
        let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended");
            }
            drop(permit);
        });
    }
    drop(listener);
    graceful.shutdown().await;
}

/// The next connection for which there is room. A registered peer has a place of its own, however many
/// strangers there are.
async fn next<L: Listener<Addr = Connection>>(
    listener: &mut L,
    room: &Arc<Semaphore>,
    wait: bool,
) -> (L::Io, Connection, Option<OwnedSemaphorePermit>) {
    loop {
        let (stream, caller) = listener.accept().await;
        if caller.expected {
            return (stream, caller, None);
        }
        let room = room.clone();
        // The semaphore is never closed.
        let permit = match wait {
            true => room.acquire_owned().await.ok(),
            false => room.try_acquire_owned().ok(),
        };
        match permit {
            Some(permit) => return (stream, caller, Some(permit)),
            None => tracing::debug!(address = %caller.address, "too many connections of strangers"),
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
        let bounds = ServerLimits {
            connections,
            idle: Duration::from_millis(200),
            wait: true,
        };
        tokio::spawn(serve(PlainListener(listener), router, bounds, stopping));
        (address, stop)
    }

    /// What is answered until the server closes the connection.
    async fn everything(mut stream: TcpStream) -> String {
        let mut bytes = Vec::new();
        let read = stream.read_to_end(&mut bytes);
        let read = tokio::time::timeout(Duration::from_secs(30), read).await;
        // A server that has lost patience may also reset the connection.
        let _ = read.expect("the server lets go of it");
        String::from_utf8(bytes).unwrap()
    }

    #[tokio::test]
    async fn a_connection_on_which_nothing_comes_is_closed() {
        let (address, _stop) = server(10).await;
        for beginning in [
            &b""[..],
            b"GET / HT",
            b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ",
        ] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(beginning).await.unwrap();
            assert!(!everything(stream).await.contains("here"));
        }
        // Also after a request that was answered.
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(REQUEST).await.unwrap();
        assert!(everything(stream).await.ends_with("here"));
    }

    #[tokio::test]
    async fn a_connection_beyond_the_limit_waits_for_one_to_end() {
        let (address, _stop) = server(1).await;
        let idle = TcpStream::connect(address).await.unwrap();
        let mut second = TcpStream::connect(address).await.unwrap();
        second.write_all(REQUEST).await.unwrap();
        // Which is once the first one has been idle for too long.
        assert!(everything(second).await.ends_with("here"));
        assert_eq!(everything(idle).await, "");
    }

    #[tokio::test]
    async fn ten_thousand_headers_are_refused() {
        let (address, _stop) = server(10).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        let mut request = REQUEST[..REQUEST.len() - 2].to_vec();
        for n in 0..10_000 {
            request.extend(format!("X-{n}: y\r\n").bytes());
        }
        // It may lose patience before all of it is sent.
        let _ = stream.write_all(&request).await;
        assert!(!everything(stream).await.contains("here"));
    }
}
