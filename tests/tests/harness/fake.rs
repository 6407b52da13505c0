//! A pretended peer: an HTTP server that remembers every request and answers by a script, with what
//! no well-behaved server does among it.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::{eventually, free_port, url_of};

/// What a request is answered.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// A status, headers (each line with its end), a body.
    Says(u16, String, String),
    /// Nothing, for as long as the connection lasts.
    Hangs,
    /// The connection is reset.
    Resets,
    /// 200, and a body of so many bytes, as far as anybody reads them.
    Pours(u64),
}

impl Reply {
    /// Accepted, as by an original peer.
    pub(crate) fn ok() -> Self {
        Self::status(200)
    }

    /// A status without a body.
    pub(crate) fn status(status: u16) -> Self {
        Self::Says(status, String::new(), String::new())
    }
}

/// A request that came in.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) at: Instant,
    /// The request line and the headers.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    /// The path that was asked for.
    pub(crate) fn path(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    /// The body as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Whether the body carries this task.
    pub(crate) fn carries(&self, task: &str) -> bool {
        String::from_utf8_lossy(&self.body).contains(task)
    }
}

type Script = dyn Fn(usize, &Seen) -> Reply + Send + Sync;

/// A pretended peer that serves as long as this value lives.
pub(crate) struct Fake {
    pub(crate) url: String,
    pub(super) port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
    poured: Arc<AtomicU64>,
    pub(super) servers: JoinSet<()>,
}

impl Fake {
    /// One that accepts everything.
    pub(crate) async fn new() -> Self {
        Self::answering(|_, _| Reply::ok()).await
    }

    /// One that answers the first requests by this list, and accepts what follows.
    pub(crate) async fn first(replies: impl Into<Vec<Reply>>) -> Self {
        let replies = replies.into();
        Self::answering(move |n, _| replies.get(n).cloned().unwrap_or_else(Reply::ok)).await
    }

    /// One that answers by a script: the request's number, from 0, and the request.
    pub(crate) async fn answering(
        script: impl Fn(usize, &Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::on_port(free_port(), script).await
    }

    /// One on a given port.
    pub(crate) async fn on_port(
        port: u16,
        script: impl Fn(usize, &Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let (seen, poured) = (Arc::default(), Arc::default());
        let state = State {
            seen: Arc::clone(&seen),
            poured: Arc::clone(&poured),
            script: Arc::new(script),
        };
        let mut servers = JoinSet::new();
        servers.spawn(serve(listener, state));
        Self {
            url: url_of(port),
            port,
            seen,
            poured,
            servers,
        }
    }

    /// Every request so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// How many bytes of bodies it got rid of that it poured out.
    pub(crate) fn poured(&self) -> u64 {
        self.poured.load(Ordering::Relaxed)
    }

    /// Waits until there were so many requests.
    pub(crate) async fn sees(&self, count: usize) -> Vec<Seen> {
        eventually(&format!("{count} requests"), async || {
            Some(self.seen()).filter(|seen| seen.len() >= count)
        })
        .await
    }

    /// Waits for a message about a task.
    pub(crate) async fn sees_task(&self, task: &str) -> Seen {
        eventually(&format!("a message about {task}"), async || {
            self.seen().into_iter().find(|seen| seen.carries(task))
        })
        .await
    }
}

#[derive(Clone)]
struct State {
    seen: Arc<Mutex<Vec<Seen>>>,
    poured: Arc<AtomicU64>,
    script: Arc<Script>,
}

async fn serve(listener: TcpListener, state: State) {
    // Connections end with the server.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(converse(stream, state.clone()));
    }
}

/// Answers requests on one connection. Each is only peeked at until its answer is known: a connection
/// that is closed with bytes unread is reset.
async fn converse(mut stream: TcpStream, state: State) {
    loop {
        let Some((request, length)) = peek(&mut stream).await else {
            return;
        };
        let reply = {
            let mut seen = state.seen.lock().unwrap();
            let reply = (state.script)(seen.len(), &request);
            seen.push(request);
            reply
        };
        let (status, headers, body) = match reply {
            Reply::Says(status, headers, body) => (status, headers, body),
            Reply::Hangs => return std::future::pending().await,
            Reply::Resets => return,
            Reply::Pours(length) => return pour(stream, length, &state.poured).await,
        };
        let mut consumed = vec![0; length];
        let answer = format!(
            "HTTP/1.1 {status} Said\r\ncontent-length: {}\r\n{headers}\r\n{body}",
            body.len()
        );
        if stream.read_exact(&mut consumed).await.is_err()
            || stream.write_all(answer.as_bytes()).await.is_err()
        {
            return;
        }
    }
}

/// An answer that is larger than anybody should want.
async fn pour(mut stream: TcpStream, length: u64, poured: &AtomicU64) {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
    let piece = [b'x'; 16 * 1024];
    let mut sent = stream.write_all(head.as_bytes()).await;
    let mut left = length;
    while sent.is_ok() && left > 0 {
        let next = usize::try_from(left).map_or(piece.len(), |left| left.min(piece.len()));
        sent = stream.write_all(&piece[..next]).await;
        if sent.is_ok() {
            left -= next as u64;
            poured.fetch_add(next as u64, Ordering::Relaxed);
        }
    }
}

/// The next request, left unread, and its length in bytes.
async fn peek(stream: &mut TcpStream) -> Option<(Seen, usize)> {
    let mut buffer = vec![0; 256 * 1024];
    let mut last = 0;
    loop {
        let length = stream.peek(&mut buffer).await.ok()?;
        if length == 0 || length == buffer.len() {
            return None;
        }
        if length == last {
            // More is on its way.
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        last = length;
        let Some(head) = buffer[..length]
            .windows(4)
            .position(|end| end == b"\r\n\r\n")
        else {
            continue;
        };
        let text = String::from_utf8_lossy(&buffer[..head]).to_ascii_lowercase();
        let body_length: usize = text
            .lines()
            .find_map(|line| line.strip_prefix("content-length:"))
            .map_or(0, |value| value.trim().parse().unwrap());
        let end = head + 4 + body_length;
        if length >= end {
            let request = Seen {
                at: Instant::now(),
                head: String::from_utf8_lossy(&buffer[..head]).into_owned(),
                body: buffer[head + 4..end].to_vec(),
            };
            return Some((request, end));
        }
    }
}
