//! The load. It does as little work as possible, because it shares the machine with the peers.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::{Context, bail};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
};

use crate::tls;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A kept-alive connection that posts empty bodies.
pub(crate) struct Connection {
    stream: Box<dyn Stream>,
    read: Vec<u8>,
}

impl Connection {
    /// Connects, with TLS if asked to. The driver shows no certificate and accepts any from A.
    pub(crate) async fn open(address: SocketAddr, tls: bool) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let stream: Box<dyn Stream> = match tls {
            true => Box::new(tls::connect(stream).await?),
            false => Box::new(stream),
        };
        Ok(Self {
            stream,
            read: Vec::with_capacity(1024),
        })
    }

    /// Posts, and returns the body of the response. Any status but 200 is an error.
    pub(crate) async fn post(&mut self, path: &str) -> anyhow::Result<String> {
        let request = format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n");
        self.stream.write_all(request.as_bytes()).await?;
        // TLS may hold back the end.
        self.stream.flush().await?;
        self.read.clear();
        loop {
            if self.stream.read_buf(&mut self.read).await? == 0 {
                bail!("the peer closed the connection");
            }
            let text = std::str::from_utf8(&self.read)?;
            let Some((head, body)) = text.split_once("\r\n\r\n") else {
                continue;
            };
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.context("an answer without a length")?.parse()?;
            if body.len() < length {
                continue;
            }
            if !head.starts_with("HTTP/1.1 200") {
                bail!("{path}: {text}");
            }
            return Ok(body.to_owned());
        }
    }
}

/// Limits how many tasks are in flight.
#[derive(Clone)]
pub(crate) struct Window {
    free: Arc<Semaphore>,
    posted: Arc<AtomicU64>,
    finished: Arc<AtomicU64>,
}

impl Window {
    pub(crate) fn new(size: u64) -> Self {
        let free = Arc::new(Semaphore::new(size as usize));
        Self {
            free,
            posted: Arc::default(),
            finished: Arc::default(),
        }
    }

    /// Waits for a free place, and takes up to `most` of them. Returns 0 when the window is
    /// closed.
    pub(crate) async fn enter(&self, most: u64) -> u64 {
        let Ok(permit) = self.free.acquire().await else {
            return 0;
        };
        permit.forget();
        let more = self.free.available_permits().min(most as usize - 1);
        // Another poster may have taken them meanwhile.
        let more = self.free.try_acquire_many(more as u32).map(|permits| {
            let taken = permits.num_permits() as u64;
            permits.forget();
            taken
        });
        let taken = 1 + more.unwrap_or_default();
        self.posted.fetch_add(taken, Ordering::Relaxed);
        taken
    }

    /// Frees the places of tasks that have come back; `count` is the total so far.
    pub(crate) fn finished(&self, count: u64) {
        let before = self.finished.swap(count, Ordering::Relaxed);
        self.free.add_permits((count - before) as usize);
    }

    pub(crate) fn posted(&self) -> u64 {
        self.posted.load(Ordering::Relaxed)
    }

    pub(crate) fn close(&self) {
        self.free.close();
    }
}
