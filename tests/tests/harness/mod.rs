//! What every test uses: real peers ([`Peer`]), pretended ones ([`Fake`]), their databases
//! ([`Database`]), messages ([`message`]), and waiting for a condition ([`eventually`]).
//!
//! No test sleeps for a time and hopes: it waits until something is so, and fails at a deadline that
//! is far beyond what is normal.

mod database;
mod fake;
mod peer;
mod proxy;
pub(crate) mod raw;
pub(crate) mod secure;

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

pub(crate) use database::{Database, Store, Window};
pub(crate) use fake::{Fake, Reply};
pub(crate) use peer::{
    Answer, ERRORHANDLING, EXTERNAL_A, EXTERNAL_B, HELLOSSL_A, HELLOSSL_B, Peer, SYNCHRONIZED_A,
    SYNCHRONIZED_B, TASKTREE_A, TASKTREE_B,
};
pub(crate) use proxy::Proxy;

/// How long a test waits for what shall come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Makes each test run on each kind of database. One for which no server is given says so.
macro_rules! on_each_store {
    ($($(#[doc = $doc:literal])* async fn $name:ident($store:ident) $body:block)*) => {
        $(
            $(#[doc = $doc])*
            async fn $name($store: $crate::harness::Store) $body

            mod $name {
                #[tokio::test(flavor = "multi_thread")]
                async fn on_sqlite() {
                    super::$name($crate::harness::Store::Sqlite).await;
                }

                #[tokio::test(flavor = "multi_thread")]
                async fn on_postgres() {
                    if let Some(store) = $crate::harness::Store::postgres() {
                        super::$name(store).await;
                    }
                }
            }
        )*
    };
}

/// Waits until `look` finds something.
///
/// # Panics
///
/// If that takes longer than [`PATIENCE`].
pub(crate) async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until a condition holds.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    eventually(what, async || holds().await.then_some(())).await;
}

/// A folder that lives as long as this value, and longer if its test fails.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        // Processes of the same number may share this folder, each in a container of its own.
        let name = format!("frestq-test-{}", uuid::Uuid::new_v4().simple());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl std::ops::Deref for Folder {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the files of this test are kept in {}", self.0.display());
        } else {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

/// A port that nobody uses. It is below those that the system gives to outgoing connections, so
/// that a peer which is down finds it free when it comes back.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 12_000;
    const COUNT: u16 = 20_000;
    let start = u16::try_from(std::process::id() % u32::from(COUNT)).unwrap();
    loop {
        let offset = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + start.wrapping_add(offset) % COUNT;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// The root queues URL of a peer on this port.
pub(crate) fn url_of(port: u16) -> String {
    format!("http://127.0.0.1:{port}/api/queues")
}

/// A fresh id.
pub(crate) fn id() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// A message that hands over a task.
pub(crate) fn message(sender: &str, action: &str, data: Value) -> Value {
    json!({
        "message_id": id(),
        "action": action,
        "sender_url": sender,
        "data": data,
        "task_id": id(),
    })
}

/// A message that reports on a task.
pub(crate) fn update(sender: &str, task: &str, status: &str, output: Value) -> Value {
    json!({
        "message_id": id(),
        "action": "frestq.update_task",
        "sender_url": sender,
        "data": {"output_data": output, "status": status},
        "task_id": task,
    })
}

/// The text of a member.
pub(crate) fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member]
        .as_str()
        .unwrap_or_else(|| panic!("no text {member:?} in {value}"))
}
