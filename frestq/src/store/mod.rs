//! The only place that knows sqlx: SQLite for one serving process, Postgres for several.
//!
//! [`Writer`] is the one connection through which a process changes tasks and messages, a batch a
//! transaction, a statement a table and not a row. [`Store`] reads beside it, and keeps the few rows
//! that are not part of a task's story: peers and nodes.
//!
//! What both databases are asked in the same words is in `read`, what they answer in `rows`; the rest,
//! where each has its own best way, in a module of its own.

mod audit;
mod filter;
mod migrations;
#[cfg(feature = "postgres")]
mod postgres;
mod pruning;
mod read;
mod registrations;
mod requests;
mod rows;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use audit::Chained;
pub(crate) use pruning::{Page, Place, Pruned, Step};
pub(crate) use requests::{Request, Stage};

pub(crate) use filter::{AUDIT_FIELDS, Filter, Filters, MESSAGE_FIELDS, TASK_FIELDS};

use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;

use crate::model::{
    InboxKey, InboxRow, Json, MessageId, NewTask, NodeId, OutboxRow, PeerId, PeerUrl, TaskId,
    TaskState,
    audit::{Head, Link},
    error::{Error, Result},
    statements::Transaction,
};

/// How long a process counts as alive after its last heartbeat, where several share a database.
pub(crate) const LEASE: Duration = Duration::from_secs(30);

/// What opening a database is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpenMode {
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
    /// Its address before the last change.
    pub(crate) former_url: Option<PeerUrl>,
    /// Which registered peer it is.
    pub(crate) name: Option<String>,
    pub(crate) health: PeerHealth,
    pub(crate) contact: Contact,
}

/// When a peer and we last heard of each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Contact {
    /// The last request that came from it.
    pub(crate) heard: Option<Timestamp>,
    /// Its last answer to one of ours.
    pub(crate) answered: Option<Timestamp>,
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

/// A task that waits for a slot.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) state: TaskState,
    pub(crate) input: Json,
    /// Its output so far; the error, where its handler is to handle one.
    pub(crate) output: Json,
    pub(crate) reservation: Json,
}

/// What never changes of a task, and is needed when its turn comes to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    pub(crate) input: Json,
    pub(crate) info: Option<Box<str>>,
    pub(crate) pingback_at: Option<Timestamp>,
    pub(crate) output: Json,
    pub(crate) reservation: Json,
}

/// The rows to load.
#[derive(Debug, Default)]
pub(crate) struct Lookup<'a> {
    pub(crate) tasks: Vec<&'a TaskId>,
    pub(crate) inbox: Vec<&'a InboxKey>,
    /// Parents, with the place of the child.
    pub(crate) places: Vec<&'a (TaskId, i64)>,
    /// Parents, of which all children are wanted.
    pub(crate) families: Vec<&'a TaskId>,
    /// Unique keys, of which the open tasks are wanted.
    pub(crate) keys: Vec<&'a str>,
}

#[cfg(test)]
impl<'a> Lookup<'a> {
    pub(crate) fn new(tasks: &[&'a TaskId], inbox: &[&'a InboxKey]) -> Self {
        Self {
            tasks: tasks.to_vec(),
            inbox: inbox.to_vec(),
            ..Self::default()
        }
    }
}

/// The rows that were found.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    pub(crate) tasks: Vec<TaskState>,
    pub(crate) inbox: Vec<(InboxKey, [u8; 16])>,
    pub(crate) keys: Vec<(Box<str>, TaskId)>,
}

/// What one transaction writes. Tasks are given as they are at its end.
#[derive(Debug, Default)]
pub(crate) struct Writes<'a> {
    pub(crate) created: Vec<(&'a NewTask, &'a TaskState, Option<&'a Json>)>,
    pub(crate) changed: Vec<(&'a TaskState, Option<&'a Json>)>,
    pub(crate) accepted: &'a [InboxRow],
    pub(crate) outgoing: &'a [OutboxRow],
    pub(crate) settled: Vec<Settled<'a>>,
    pub(crate) payloads: Vec<NewPayload<'a>>,
    pub(crate) recorded: Option<Recorded<'a>>,
}

/// The next rows of a chain of the audit.
#[derive(Debug)]
pub(crate) struct Recorded<'a> {
    pub(crate) chain: &'a str,
    pub(crate) links: &'a [Link],
}

/// What changes of a task beside its state and output.
#[derive(Debug)]
pub(crate) struct NewPayload<'a> {
    pub(crate) task: &'a TaskId,
    pub(crate) input: Option<&'a Json>,
    pub(crate) reservation: Option<&'a Json>,
    pub(crate) progress: Option<&'a Json>,
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
    /// Synchronized groups whose round is over, and tasks whose reservation is.
    pub(crate) waking: Vec<TaskId>,
    /// Queues in which a delayed task may start.
    pub(crate) ready: Vec<String>,
    /// When to look again; `None`: nothing is planned.
    pub(crate) next: Option<Timestamp>,
}

/// What another process on the same database has just committed: look there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    /// Tasks of this queue wait for a slot, or will at some later moment.
    Queue(String),
    /// There are messages for this peer.
    Outbox(PeerId),
    /// This task has ended.
    Ended(TaskId),
    /// Peers were registered, or taken out.
    PeerSet,
    /// Words may have been lost: look everywhere.
    Everything,
}

/// The same on both databases, or its own on each. A feature that is off leaves its database out.
macro_rules! on_either {
    ($value:expr, $inner:ident => $call:expr) => {
        on_either!($value, sqlite($inner) => $call, postgres($inner) => $call)
    };
    (
        $value:expr,
        sqlite($sqlite:pat) => $on_sqlite:expr,
        postgres($postgres:pat) => $on_postgres:expr $(,)?
    ) => {
        match $value {
            #[cfg(feature = "sqlite")]
            Self::Sqlite($sqlite) => $on_sqlite,
            #[cfg(feature = "postgres")]
            Self::Postgres($postgres) => $on_postgres,
        }
    };
}
use on_either;

/// The database, for reading, and for peers and nodes.
#[derive(Debug)]
pub(crate) enum Store {
    #[cfg(feature = "sqlite")]
    Sqlite(sqlite::Sqlite),
    #[cfg(feature = "postgres")]
    Postgres(postgres::Postgres),
}

impl Store {
    /// Opens the database at `sqlite:PATH` or `postgres://...`.
    pub(crate) async fn open(url: &str, purpose: OpenMode) -> Result<Self> {
        if let Some(path) = url.strip_prefix("sqlite:") {
            #[cfg(feature = "sqlite")]
            return Ok(Self::Sqlite(
                sqlite::Sqlite::open(path.trim_start_matches("//"), purpose).await?,
            ));
            #[cfg(not(feature = "sqlite"))]
            return Err(feature_is_off("sqlite"));
        }
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            #[cfg(feature = "postgres")]
            return Ok(Self::Postgres(
                postgres::Postgres::open(url, purpose).await?,
            ));
            #[cfg(not(feature = "postgres"))]
            return Err(feature_is_off("postgres"));
        }
        Err(Error::Config(format!(
            "database {:?} is neither sqlite:PATH nor postgres://USER@HOST/NAME",
            url.split(':').next().unwrap_or_default()
        )))
    }

    /// Whether no other process can change tasks while this one serves.
    pub(crate) fn is_exclusive(&self) -> bool {
        on_either!(self, sqlite(_) => true, postgres(_) => false)
    }

    /// The connection that writes.
    pub(crate) async fn writer(&self) -> Result<Writer> {
        Ok(on_either!(
            self,
            sqlite(store) => Writer::Sqlite(store.writer().await?),
            postgres(store) => Writer::Postgres(store.writer().await?),
        ))
    }

    /// Whether no other process serves this database. On SQLite, this process holds its lock from then
    /// on, so that none can begin to.
    pub(crate) async fn is_alone(&mut self) -> Result<bool> {
        on_either!(
            self,
            sqlite(store) => store.take_lock(),
            postgres(store) => store.is_alone().await,
        )
    }

    /// Runs the application's own statements for making tables.
    pub(crate) async fn run_schema(&self, statements: &[&str]) -> Result<()> {
        on_either!(self, store => store.run_schema(statements).await)
    }

    /// Enters this process among the nodes, in the place of an earlier one of that name.
    pub(crate) async fn join(&self, name: &str, now: Timestamp) -> Result<NodeId> {
        on_either!(self, store => store.join(name, now).await)
    }

    /// Extends the leases of everything this process runs. `false`: it was given up for dead.
    pub(crate) async fn heartbeat(&self, node: NodeId) -> Result<bool> {
        on_either!(self, store => store.heartbeat(node).await)
    }

    /// Makes a process that was given up for dead alive again: whatever it runs and nobody has put
    /// back is its own as before. `false`: another one has taken its name, so it is not needed.
    pub(crate) async fn join_again(&self, node: NodeId, name: &str) -> Result<bool> {
        on_either!(
            self,
            // The file's lock is a lease that never runs out.
            sqlite(_) => Ok(true),
            postgres(store) => store.join_again(node, name).await,
        )
    }

    /// Removes this process; whatever it still owns can be taken over.
    pub(crate) async fn leave(&self, node: NodeId) -> Result<()> {
        on_either!(self, store => store.leave(node).await)
    }

    /// Makes `node` the one process that delivers to `peer`, if no other live one does. To be asked
    /// again before every pass: `false` says that another one has taken over, or must have.
    pub(crate) async fn claim_delivery(&self, peer: PeerId, node: NodeId) -> Result<bool> {
        on_either!(
            self,
            sqlite(_) => Ok(true),
            postgres(store) => store.claim_delivery(peer, node).await,
        )
    }

    /// What other processes on this database commit from now on; `None`: there can't be any.
    ///
    /// Whoever listens looks at everything once, after this call.
    pub(crate) async fn wakes(&self) -> Result<Option<mpsc::Receiver<Wake>>> {
        on_either!(
            self,
            sqlite(_) => Ok(None),
            postgres(store) => store.wakes().await.map(Some),
        )
    }

    /// Whether the file system that holds the database has at least this much room. Always, where
    /// the database is on a server.
    pub(crate) fn has_room(&self, bytes: u64) -> bool {
        on_either!(self, sqlite(store) => store.has_room(bytes), postgres(_) => true)
    }

    pub(crate) async fn close(&self) {
        on_either!(self, store => store.close().await)
    }
}

/// The connection through which this process writes. One transaction at a time.
pub(crate) enum Writer {
    #[cfg(feature = "sqlite")]
    Sqlite(sqlite::SqliteWriter),
    #[cfg(feature = "postgres")]
    Postgres(postgres::PgWriter),
}

impl Writer {
    pub(crate) async fn begin(&mut self) -> Result<()> {
        on_either!(self, writer => writer.begin().await)
    }

    /// Makes the transaction true; gives the place in the outbox of each message that it stored.
    pub(crate) async fn commit(&mut self) -> Result<Vec<(MessageId, i64)>> {
        on_either!(self, writer => writer.commit().await)
    }

    /// Undoes the open transaction, if any, and leaves the connection usable.
    pub(crate) async fn rollback(&mut self) -> Result<()> {
        on_either!(self, writer => writer.rollback().await)
    }

    /// Loads task states, locked against other processes until the end of the transaction, and the
    /// hashes of accepted messages.
    pub(crate) async fn load(&mut self, lookup: &Lookup<'_>) -> Result<Loaded> {
        on_either!(self, writer => writer.load(lookup).await)
    }

    /// Loads what is needed to send tasks whose turn has come.
    pub(crate) async fn contents(&mut self, ids: &[&TaskId]) -> Result<Vec<(TaskId, Content)>> {
        on_either!(self, writer => writer.contents(ids).await)
    }

    /// Runs a handler's statements; if one fails, none of them has happened.
    pub(crate) async fn run(&mut self, transaction: &Transaction) -> Result<Result<(), String>> {
        on_either!(self, writer => writer.run(transaction).await)
    }

    /// Writes all of it.
    pub(crate) async fn save(&mut self, writes: &Writes<'_>) -> Result<()> {
        on_either!(self, writer => writer.save(writes).await)
    }

    /// How far a chain of the audit goes.
    pub(crate) async fn audit_head(&mut self, chain: &str) -> Result<Head> {
        on_either!(self, writer => writer.audit_head(chain).await)
    }

    /// Removes what is old, as far as that is still so.
    pub(crate) async fn prune(&mut self, step: &Step, now: Timestamp) -> Result<Pruned> {
        on_either!(self, writer => writer.prune(step, now).await)
    }

    /// Tasks of a queue that wait for a slot, in order, with their inputs.
    pub(crate) async fn waiting(
        &mut self,
        queue: &str,
        limit: i64,
        now: Timestamp,
    ) -> Result<Vec<Waiting>> {
        on_either!(self, writer => writer.waiting(queue, limit, now).await)
    }
}

/// An address that needs a database which this build has not.
#[cfg(not(all(feature = "sqlite", feature = "postgres")))]
fn feature_is_off(feature: &str) -> Error {
    Error::Config(format!(
        "`database` needs the feature `{feature}` of the crate frestq, which this binary was built without"
    ))
}

/// Whether a transaction lost to another one and may succeed when all of it is done again, from
/// loading on: two processes took the same message or task, or wanted each other's rows.
///
/// A lost connection is not among these: waiting for it is no race.
pub(crate) fn is_transient(error: &Error) -> bool {
    let Error::Database(sqlx::Error::Database(error)) = error else {
        return false;
    };
    match error.code().as_deref() {
        // Postgres: serialization failure, deadlock.
        Some("40001" | "40P01") => true,
        // Postgres: the row is there by now. SQLite has one writer, so there it is no race.
        Some("23505") => matches!(error.table(), Some("inbox" | "tasks" | "audit")),
        // SQLite: another process holds the file, busy or with a newer snapshot.
        Some("5" | "517") => true,
        _ => false,
    }
}

/// Whether a row could not be stored because there is one of that key: then nothing is committed.
pub(crate) fn was_there(error: &Error) -> bool {
    let Error::Database(sqlx::Error::Database(error)) = error else {
        return false;
    };
    error.is_unique_violation()
}

/// Text for people, without the one character that Postgres can't store.
fn printable(text: &str) -> String {
    text.replace('\0', "\u{FFFD}")
}

/// Whether the database has just the migrations of this version; if not, what to do. To create is to
/// add what is missing.
fn check_migrations(
    ours: &sqlx::migrate::Migrator,
    applied: &[(i64,)],
    purpose: OpenMode,
) -> Result<(), String> {
    let have = applied.iter().map(|v| v.0).max().unwrap_or(0);
    let want = ours.iter().map(|m| m.version).max().unwrap_or(0);
    match have.cmp(&want) {
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Less if purpose == OpenMode::Create => Ok(()),
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
