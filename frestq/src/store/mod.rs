//! The only place that knows sqlx: SQLite for one serving process, Postgres for several.
//!
//! [`Writer`] is the one connection through which a process changes tasks and messages, a batch a
//! transaction, a statement a table and not a row. [`Store`] reads beside it, and keeps the few rows
//! that are not part of a task's story: peers and nodes.

mod filter;
mod sqlite;

pub(crate) use filter::{Filter, Filters, MESSAGE_FIELDS, TASK_FIELDS};

use jiff::Timestamp;

use crate::{
    error::{Error, Result},
    model::{
        InboxKey, InboxRow, Json, MessageId, MessageRecord, NewTask, NodeId, OutboxRow, PeerId,
        PeerUrl, TaskId, TaskRecord, TaskState,
    },
    transaction::Transaction,
};

/// What opening a database is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// `--createdb`: make what is missing.
    Create,
    /// Serve: an up-to-date database that no other process serves (SQLite).
    Serve,
    /// The command line: read only.
    Look,
}

/// A peer's row.
#[derive(Clone, Debug)]
pub(crate) struct PeerRow {
    pub(crate) id: PeerId,
    pub(crate) url: PeerUrl,
    pub(crate) health: PeerHealth,
}

/// What is remembered of a peer's reachability.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct PeerHealth {
    /// It has shown that it reads `frestq.batch` and `ext`.
    pub(crate) extensions: bool,
    /// Transport failures in a row.
    pub(crate) failures: i64,
    /// The breaker is open until then.
    pub(crate) probe_at: Option<Timestamp>,
    pub(crate) last_error: Option<String>,
}

/// What one transaction writes. Tasks are given as they are at its end.
#[derive(Debug, Default)]
pub(crate) struct Writes<'a> {
    pub(crate) created: Vec<(&'a NewTask, &'a TaskState, Option<&'a Json>)>,
    pub(crate) changed: Vec<(&'a TaskState, Option<&'a Json>)>,
    pub(crate) accepted: &'a [InboxRow],
    pub(crate) outgoing: &'a [OutboxRow],
    pub(crate) settled: Vec<Settled<'a>>,
}

/// How an outbox row ends, or goes on.
#[derive(Debug)]
pub(crate) struct Settled<'a> {
    pub(crate) seq: i64,
    pub(crate) state: OutboxState,
    /// The HTTP status of the answer, 0 if there was none.
    pub(crate) answer: u16,
    /// Set with `Pending`: when to try again.
    pub(crate) due_at: Option<Timestamp>,
    pub(crate) error: Option<&'a str>,
}

/// The state of an outbox row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OutboxState {
    Pending = 0,
    Delivered = 1,
    Failed = 2,
}

impl OutboxState {
    fn word(code: i64) -> &'static str {
        match code {
            -1 => "accepted",
            0 => "pending",
            1 => "delivered",
            _ => "failed",
        }
    }
}

/// The next moments at which something is due without anybody saying so.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Due {
    /// Tasks whose expiration date has come.
    pub(crate) expired: Vec<TaskId>,
    /// Queues in which a delayed task may start.
    pub(crate) ready: Vec<String>,
    /// When to look again; `None`: nothing is planned.
    pub(crate) next: Option<Timestamp>,
}

macro_rules! on_either {
    ($value:expr, $inner:ident => $call:expr) => {
        match $value {
            Self::Sqlite($inner) => $call,
        }
    };
}

/// The database, for reading, and for peers and nodes.
#[derive(Debug)]
pub(crate) enum Store {
    Sqlite(sqlite::Sqlite),
}

impl Store {
    /// Opens the database at `sqlite:PATH` or `postgres://...`.
    pub(crate) async fn open(url: &str, purpose: Purpose) -> Result<Self> {
        match url.strip_prefix("sqlite:") {
            Some(path) => Ok(Self::Sqlite(
                sqlite::Sqlite::open(path.trim_start_matches("//"), purpose).await?,
            )),
            None => Err(Error::Config(format!(
                "database {:?} is neither sqlite:PATH nor postgres://USER@HOST/NAME",
                url.split(':').next().unwrap_or_default()
            ))),
        }
    }

    /// The connection that writes.
    pub(crate) async fn writer(&self) -> Result<Writer> {
        Ok(match self {
            Self::Sqlite(store) => Writer::Sqlite(store.writer().await?),
        })
    }

    /// Runs the application's own statements for making tables.
    pub(crate) async fn run_schema(&self, statements: &[&str]) -> Result<()> {
        on_either!(self, store => store.run_schema(statements).await)
    }

    /// Writes down this peer's own address, in row 0 of the peers.
    pub(crate) async fn set_own_url(&self, url: &PeerUrl) -> Result<()> {
        on_either!(self, store => store.set_own_url(url).await)
    }

    /// Every known peer.
    pub(crate) async fn peers(&self) -> Result<Vec<PeerRow>> {
        on_either!(self, store => store.peers().await)
    }

    /// The row of the peer with this address, made if there is none.
    pub(crate) async fn add_peer(&self, url: &PeerUrl) -> Result<PeerRow> {
        on_either!(self, store => store.add_peer(url).await)
    }

    pub(crate) async fn set_peer_health(&self, peer: PeerId, health: &PeerHealth) -> Result<()> {
        on_either!(self, store => store.set_peer_health(peer, health).await)
    }

    /// Enters this process among the nodes, in the place of an earlier one of that name.
    pub(crate) async fn join(&self, name: &str, now: Timestamp) -> Result<NodeId> {
        on_either!(self, store => store.join(name, now).await)
    }

    /// Extends the leases of everything this process runs. `false`: it was given up for dead.
    pub(crate) async fn heartbeat(&self, node: NodeId) -> Result<bool> {
        on_either!(self, store => store.heartbeat(node).await)
    }

    /// Removes this process; whatever it still owns can be taken over.
    pub(crate) async fn leave(&self, node: NodeId) -> Result<()> {
        on_either!(self, store => store.leave(node).await)
    }

    /// Running tasks whose process is gone, up to `limit`: id, owner, queue, action.
    pub(crate) async fn orphans(
        &self,
        limit: i64,
    ) -> Result<Vec<(TaskId, NodeId, String, String)>> {
        on_either!(self, store => store.orphans(limit).await)
    }

    /// What is due by now, and when to look again.
    pub(crate) async fn due(&self, now: Timestamp, limit: i64) -> Result<Due> {
        on_either!(self, store => store.due(now, limit).await)
    }

    /// How many received tasks have not ended, by peer.
    pub(crate) async fn open_tasks(&self) -> Result<Vec<(PeerId, i64)>> {
        on_either!(self, store => store.open_tasks().await)
    }

    /// Messages for `peer` that are due, in order, after a place in the outbox.
    pub(crate) async fn pending(
        &self,
        peer: PeerId,
        after: i64,
        now: Timestamp,
        limit: i64,
    ) -> Result<Vec<OutboxRow>> {
        on_either!(self, store => store.pending(peer, after, now, limit).await)
    }

    /// When the next message for `peer` is due after `now`.
    pub(crate) async fn next_delivery(
        &self,
        peer: PeerId,
        now: Timestamp,
    ) -> Result<Option<Timestamp>> {
        on_either!(self, store => store.next_delivery(peer, now).await)
    }

    /// Peers with pending messages, each with the moment its first one is due.
    pub(crate) async fn backlog(&self) -> Result<Vec<(PeerId, Timestamp)>> {
        on_either!(self, store => store.backlog().await)
    }

    /// The tasks that match, newest first.
    pub(crate) async fn tasks(&self, filters: &Filters, limit: i64) -> Result<Vec<TaskRecord>> {
        on_either!(self, store => store.tasks(filters, limit).await)
    }

    /// The task of this id.
    pub(crate) async fn task(&self, id: &TaskId) -> Result<Option<TaskRecord>> {
        let filters = Filters::exactly("t.id", id.as_str());
        Ok(self.tasks(&filters, 1).await?.pop())
    }

    /// The messages that match, newest first.
    pub(crate) async fn messages(
        &self,
        filters: &Filters,
        limit: i64,
    ) -> Result<Vec<MessageRecord>> {
        on_either!(self, store => store.messages(filters, limit).await)
    }

    /// The tasks whose id starts like this, at most `limit`.
    pub(crate) async fn find_tasks(&self, prefix: &str, limit: i64) -> Result<Vec<TaskRecord>> {
        let filters = Filters::new(TASK_FIELDS, &[format!("id={prefix}*")])?;
        self.tasks(&filters, limit).await
    }

    /// Whether the file system that holds the database has at least this much room. Always, where
    /// the database is on a server.
    pub(crate) fn has_room(&self, bytes: u64) -> bool {
        match self {
            Self::Sqlite(store) => store.has_room(bytes),
        }
    }

    pub(crate) async fn close(&self) {
        on_either!(self, store => store.close().await)
    }
}

/// The connection through which this process writes. One transaction at a time.
pub(crate) enum Writer {
    Sqlite(sqlite::SqliteWriter),
}

impl Writer {
    pub(crate) async fn begin(&mut self) -> Result<()> {
        on_either!(self, writer => writer.begin().await)
    }

    pub(crate) async fn commit(&mut self) -> Result<()> {
        on_either!(self, writer => writer.commit().await)
    }

    /// Undoes the open transaction, if any, and leaves the connection usable.
    pub(crate) async fn rollback(&mut self) -> Result<()> {
        on_either!(self, writer => writer.rollback().await)
    }

    /// Loads task states, locked against other processes until the end of the transaction.
    pub(crate) async fn load_tasks(&mut self, ids: &[&TaskId]) -> Result<Vec<TaskState>> {
        on_either!(self, writer => writer.load_tasks(ids).await)
    }

    /// Loads the hashes of accepted messages.
    pub(crate) async fn load_inbox(
        &mut self,
        keys: &[&InboxKey],
    ) -> Result<Vec<(InboxKey, [u8; 16])>> {
        on_either!(self, writer => writer.load_inbox(keys).await)
    }

    /// Runs a handler's statements; if one fails, none of them has happened.
    pub(crate) async fn run(&mut self, transaction: &Transaction) -> Result<Result<(), String>> {
        on_either!(self, writer => writer.run(transaction).await)
    }

    /// Writes all of it.
    pub(crate) async fn save(&mut self, writes: &Writes<'_>) -> Result<()> {
        on_either!(self, writer => writer.save(writes).await)
    }

    /// Tasks of a queue that wait for a slot, in order, with their inputs.
    pub(crate) async fn waiting(
        &mut self,
        queue: &str,
        limit: i64,
        now: Timestamp,
    ) -> Result<Vec<(TaskState, Json)>> {
        on_either!(self, writer => writer.waiting(queue, limit, now).await)
    }
}

/// Whether the same transaction may succeed when it is run again, from loading on: it lost a race
/// against another process.
pub(crate) fn is_transient(_error: &Error) -> bool {
    false
}

/// Reads a column that holds JSON we wrote.
fn json(text: Option<String>) -> Result<Json> {
    match text {
        Some(text) => Ok(serde_json::value::RawValue::from_string(text)?),
        None => Ok(crate::model::null()),
    }
}

/// Reads a column that holds a moment.
fn moment(microseconds: i64) -> Result<Timestamp> {
    Timestamp::from_microsecond(microseconds).map_err(|_| {
        Error::Invalid(format!(
            "the database holds a moment out of range: {microseconds}"
        ))
    })
}

/// Reads a column that holds a code of ours.
fn code<T>(value: Option<T>, column: &str, code: i64) -> Result<T> {
    value.ok_or_else(|| {
        Error::Invalid(format!(
            "the database holds an unknown {column}: {code}; was it written by a newer version?"
        ))
    })
}

/// Whether the database has just the migrations of this version; if not, what to do.
fn check_migrations(ours: &sqlx::migrate::Migrator, applied: &[(i64,)]) -> Result<(), String> {
    let newest = |versions: &mut dyn Iterator<Item = i64>| versions.max().unwrap_or(0);
    let (have, want) = (
        newest(&mut applied.iter().map(|v| v.0)),
        newest(&mut ours.iter().map(|m| m.version)),
    );
    match have.cmp(&want) {
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Less if have == 0 => {
            Err("it has no tables of frestq yet; run this binary with --createdb".into())
        }
        std::cmp::Ordering::Less => Err(format!(
            "its tables are of version {have}, this binary needs {want}; run this binary with --createdb, which keeps the data"
        )),
        std::cmp::Ordering::Greater => Err(format!(
            "its tables are of version {have}, this binary knows {want}; run the newer binary that made them"
        )),
    }
}

fn message_id(text: String) -> MessageId {
    text.into()
}
