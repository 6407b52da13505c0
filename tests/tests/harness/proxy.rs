//! Stands between a peer and its Postgres server, and loses the answer to a commit when told so.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use super::{Store, free_port};

/// The text of the statement, as it stands in the message that prepares it.
const COMMIT: &[u8] = b"COMMIT\0";

/// A proxy that runs as long as this value lives.
pub(crate) struct Proxy {
    port: u16,
    state: Arc<State>,
    /// Cuts every connection when it changes.
    cut: watch::Sender<()>,
    server: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct State {
    armed: AtomicBool,
    lost: AtomicUsize,
}

impl Proxy {
    /// One in front of the server of this store, which is Postgres.
    pub(crate) async fn new(store: &Store) -> Self {
        let Store::Postgres(url) = store else {
            panic!("SQLite has no server");
        };
        let url = reqwest::Url::parse(url).unwrap();
        let target = (
            url.host_str().unwrap().to_owned(),
            url.port().unwrap_or(5432),
        );
        let port = free_port();
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let (state, cut) = (Arc::<State>::default(), watch::Sender::new(()));
        let (shared, cuts) = (state.clone(), cut.subscribe());
        let server = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(target.clone()).await.unwrap();
                let mut cuts = cuts.clone();
                cuts.mark_unchanged();
                tokio::spawn(forward(client, server, shared.clone(), cuts));
            }
        });
        Self {
            port,
            state,
            cut,
            server,
        }
    }

    /// The address of a database, through here.
    pub(crate) fn through(&self, database: &str) -> String {
        let mut url = reqwest::Url::parse(database).unwrap();
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(self.port)).unwrap();
        url.to_string()
    }

    /// Lets the next commit come through, and nobody know.
    pub(crate) fn lose_next_commit(&self) {
        // A commit is told by its preparing, which a connection does once: so they begin anew.
        self.state.armed.store(true, Ordering::SeqCst);
        self.cut.send_replace(());
    }

    /// How many answers were lost.
    pub(crate) fn lost(&self) -> usize {
        self.state.lost.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn forward(
    mut client: TcpStream,
    mut server: TcpStream,
    state: Arc<State>,
    mut cut: watch::Receiver<()>,
) {
    let (mut asked, mut answered) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    let mut prepared = false;
    loop {
        tokio::select! {
            length = client.read(&mut asked) => {
                let Ok(length @ 1..) = length else { return };
                let asked = &asked[..length];
                let lose = prepared && state.armed.swap(false, Ordering::SeqCst);
                if server.write_all(asked).await.is_err() {
                    return;
                }
                if lose {
                    // The server has done it once it answers.
                    let _ = server.read(&mut answered).await;
                    state.lost.fetch_add(1, Ordering::SeqCst);
                    return;
                }
                prepared = asked.windows(COMMIT.len()).any(|text| text == COMMIT);
            }
            length = server.read(&mut answered) => {
                let Ok(length @ 1..) = length else { return };
                if client.write_all(&answered[..length]).await.is_err() {
                    return;
                }
            }
            _ = cut.changed() => return,
        }
    }
}
