//! The handle that a handler holds while it runs. It buffers what the handler adds; the engine
//! commits that together with the task's completion.

use std::sync::{Arc, Mutex, MutexGuard};

use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::watch;

use super::{
    compose::Compose,
    peer::Frestq,
    relative::{Relative, Relatives},
};
use crate::model::{
    Fingerprint, Json, PeerUrl, TaskId,
    draft::Draft,
    error::{Error, Result},
    statements::Transaction,
    to_json,
};

/// The running task, as its handler sees it. Cheap to clone.
#[derive(Clone)]
pub struct Task(Arc<Running>);

struct Running {
    peer: Frestq,
    id: TaskId,
    queue: Arc<str>,
    action: Arc<str>,
    sender: Sender,
    attempt: i64,
    trace: Option<Arc<str>>,
    epoch: i64,
    input: Json,
    parent: Option<TaskId>,
    order: i64,
    reservation: Json,
    cancelled: watch::Receiver<bool>,
    added: Mutex<Added>,
}

/// The peer that sent a task: who it is, and by what it was known.
#[derive(Clone, Debug)]
pub struct Sender {
    pub(crate) url: PeerUrl,
    pub(crate) name: Option<String>,
    pub(crate) certificate: Option<Fingerprint>,
}

impl Sender {
    /// Its root queues URL.
    pub fn url(&self) -> &PeerUrl {
        &self.url
    }

    /// The name under which it is registered; none without `[tls]`, and of a local task.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// `sha256:` and the fingerprint of the certificate that it showed when it handed the task over; none
    /// without `[tls]`, and of a local task.
    pub fn certificate(&self) -> Option<String> {
        self.certificate.map(|certificate| certificate.to_string())
    }
}

/// Its root queues URL.
impl std::fmt::Display for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.url.fmt(f)
    }
}

/// What the handler adds, to be committed with its completion.
#[derive(Default)]
pub(crate) struct Added {
    pub(crate) transaction: Transaction,
    pub(crate) children: Vec<Draft>,
    pub(crate) output: Option<Result<Json>>,
    pub(crate) parent_output: Option<Result<Json>>,
}

/// What a run starts from.
pub(crate) struct Start {
    pub(crate) id: TaskId,
    pub(crate) queue: Arc<str>,
    pub(crate) action: Arc<str>,
    pub(crate) sender: Sender,
    pub(crate) attempt: i64,
    pub(crate) trace: Option<Arc<str>>,
    pub(crate) epoch: i64,
    pub(crate) input: Json,
    pub(crate) parent: Option<TaskId>,
    pub(crate) order: i64,
    pub(crate) reservation: Json,
    pub(crate) cancelled: watch::Receiver<bool>,
}

impl Task {
    pub(crate) fn new(peer: Frestq, start: Start) -> Self {
        Self(Arc::new(Running {
            peer,
            id: start.id,
            queue: start.queue,
            action: start.action,
            sender: start.sender,
            attempt: start.attempt,
            trace: start.trace,
            epoch: start.epoch,
            input: start.input,
            parent: start.parent,
            order: start.order,
            reservation: start.reservation,
            cancelled: start.cancelled,
            added: Mutex::default(),
        }))
    }

    /// The task's id, the same on both peers.
    pub fn id(&self) -> &TaskId {
        &self.0.id
    }

    /// The claim under which it runs.
    pub(crate) fn epoch(&self) -> i64 {
        self.0.epoch
    }

    /// The queue it came in.
    pub fn queue(&self) -> &str {
        &self.0.queue
    }

    /// The action it asks for.
    pub fn action(&self) -> &str {
        &self.0.action
    }

    /// The peer that sent it; this peer itself for a local task.
    pub fn sender(&self) -> &Sender {
        &self.0.sender
    }

    /// This peer, for sending tasks of its own.
    pub fn peer(&self) -> &Frestq {
        &self.0.peer
    }

    /// This peer's root queues URL, for tasks that shall run here.
    pub fn here(&self) -> &PeerUrl {
        self.0.peer.url()
    }

    /// Which run this is, from 1; the runs of `handle_error` count too. More than 1 means that earlier ones were cut off, or failed and
    /// the action declares `retries`.
    pub fn attempt(&self) -> u32 {
        u32::try_from(self.0.attempt).unwrap_or(u32::MAX)
    }

    /// The text that its sender gave it with `trace`, at most 512 bytes; its subtasks have it too, unless
    /// they have their own. None if it has none, or comes from a peer that sends none.
    ///
    /// ```no_run
    /// # use frestq::prelude::*;
    /// #[frestq::task(queue = "ballots", action = "count")]
    /// async fn count(votes: i64, task: Task) -> anyhow::Result<()> {
    ///     tracing::info!(trace = task.trace(), votes, "counting");
    ///     Ok(())
    /// }
    /// ```
    pub fn trace(&self) -> Option<&str> {
        self.0.trace.as_deref()
    }

    /// The key under which an effect outside of this peer's database is done once: sender and task
    /// id. It is the same in every run of this task and in no other task.
    pub fn effect_key(&self) -> String {
        format!("{} {}", self.0.sender.url, self.0.id)
    }

    /// The input as a type of yours.
    ///
    /// # Errors
    ///
    /// [`Error::Json`](crate::Error::Json) if the input is of another shape.
    pub fn input<T: DeserializeOwned>(&self) -> Result<T> {
        Ok(serde_json::from_str(self.0.input.get())?)
    }

    /// What the handler has reserved for this task of a synchronized group, as a type of yours; `null`
    /// if nothing was.
    ///
    /// # Errors
    ///
    /// [`Error::Json`](crate::Error::Json) if it is of another shape.
    pub fn reservation<T: DeserializeOwned>(&self) -> Result<T> {
        Ok(serde_json::from_str(self.0.reservation.get())?)
    }

    /// Says how far the work is, from 0 to 1, with a word for people: `--watch` and `--tree` show it.
    /// On disk when this returns; it stays on this peer.
    ///
    /// # Errors
    ///
    /// Those of the database; the run may go on.
    pub async fn progress(&self, fraction: f64, note: impl Into<String>) -> Result<()> {
        let fraction = if fraction.is_finite() {
            fraction.clamp(0.0, 1.0)
        } else {
            0.0
        };
        let progress = serde_json::json!({ "fraction": fraction, "note": note.into() });
        let (peer, progress) = (&self.0.peer, to_json(&progress)?);
        peer.progress(&self.0.id, self.0.epoch, progress).await
    }

    /// Statements that commit together with the completion of this task: exactly once, however often
    /// it runs.
    ///
    /// ```no_run
    /// # use frestq::prelude::*;
    /// #[frestq::task(queue = "ballots", action = "count")]
    /// async fn count(votes: i64, task: Task) -> anyhow::Result<()> {
    ///     task.transaction(|tx| {
    ///         tx.execute("INSERT INTO tally (task, votes) VALUES ($1, $2)", (task.id().as_str(), votes));
    ///     });
    ///     Ok(())
    /// }
    /// ```
    ///
    /// The statements run after the handler has returned `Ok`, in order, in the transaction that
    /// sets the task `finished`. If one of them fails, none has
    /// happened, and the run has failed like one whose handler returned `Err`.
    /// All of them together have `transaction_timeout` (5 s by default), since they hold up the commits of
    /// all other tasks; past that they fail.
    /// They run in this peer's own database, where [`App::schema`](crate::App::schema) makes your tables.
    pub fn transaction(&self, add: impl FnOnce(&mut Transaction)) {
        add(&mut self.added().transaction);
    }

    /// Adds a subtask, or a group of them. Subtasks start after the handler has returned `Ok`, one
    /// after the other in the order in which they were added; the task finishes with the last one.
    ///
    /// ```no_run
    /// # use frestq::prelude::*;
    /// #[frestq::task(queue = "town_hall", action = "open")]
    /// async fn open(task: Task) -> anyhow::Result<()> {
    ///     let doors = || SimpleTask::new(task.here(), "town_hall", "open_door");
    ///     task.add(Parallel::new().add(doors()).add(doors()));
    ///     task.add(SimpleTask::new("http://127.0.0.1:5001/api/queues", "press", "tell"));
    ///     Ok(())
    /// }
    /// ```
    ///
    /// A wrong address, or an action that this peer does not have, ends the task in error. Only
    /// `execute` may add: in `handle_error` it counts as a failure, elsewhere it is logged and dropped.
    pub fn add(&self, child: impl Compose) {
        self.added().children.push(child.into_node().0);
    }

    /// Sets the output of the task, in the place of what the handler returns: for an output whose type
    /// depends on what the handler finds. It counts when the handler returns `Ok`, and the last one
    /// counts. As [`add`](Self::add), it is for `execute` alone.
    ///
    /// ```no_run
    /// # use frestq::prelude::*;
    /// #[frestq::task(queue = "office", action = "look_up")]
    /// async fn look_up(name: String, task: Task) -> anyhow::Result<()> {
    ///     task.set_output(serde_json::json!({ "name": name, "known": true }));
    ///     Ok(())
    /// }
    /// ```
    ///
    /// An output that is not JSON ends the task in error.
    pub fn set_output(&self, output: impl Serialize) {
        self.added().output = Some(to_json(&output).map_err(Into::into));
    }

    /// Sets the output of the task's parent, when this task completes. As [`add`](Self::add), it is for
    /// `execute` alone.
    pub fn set_parent_output(&self, output: impl Serialize) {
        self.added().parent_output = Some(to_json(&output).map_err(Into::into));
    }

    /// Returns when the task is called off: cancelled, expired, or ended with its tree. Whatever the
    /// handler returns afterwards has no effect, so it may stop.
    pub async fn cancelled(&self) {
        let mut cancelled = self.0.cancelled.clone();
        if cancelled.wait_for(|off| *off).await.is_err() {
            // The run is over, and with it all waiting.
            std::future::pending::<()>().await;
        }
    }

    /// Whether the task was called off.
    pub fn is_cancelled(&self) -> bool {
        *self.0.cancelled.borrow()
    }

    /// The task of whose tree this one is a part.
    ///
    /// # Errors
    ///
    /// [`Error::NoRelative`] if it has none; those of the database.
    pub async fn parent(&self) -> Result<Relative> {
        let parent = self.parent_id("parent")?;
        let record = self.0.peer.task(parent).await?;
        Ok(Relative::new(self.0.peer.clone(), record))
    }

    /// The sibling before this task.
    ///
    /// # Errors
    ///
    /// [`Error::NoRelative`] if it is the first one or has no parent; those of the database.
    pub async fn previous(&self) -> Result<Relative> {
        self.sibling("previous", self.0.order - 1).await
    }

    /// The sibling after this task.
    ///
    /// # Errors
    ///
    /// [`Error::NoRelative`] if it is the last one or has no parent; those of the database.
    pub async fn next(&self) -> Result<Relative> {
        self.sibling("next", self.0.order + 1).await
    }

    /// The other children of this task's parent, in order.
    ///
    /// # Errors
    ///
    /// [`Error::NoRelative`] if it has no parent; those of the database.
    pub async fn siblings(&self) -> Result<Relatives> {
        let parent = self.parent_id("siblings")?;
        let family = self.0.peer.services.store.children(parent).await?;
        let others = family.into_iter().filter(|task| task.id != self.0.id);
        Ok(Relatives::new(&self.0.peer, others))
    }

    /// The subtasks of this task, in order. While its handler runs for the first time there are
    /// none: those that it adds are stored with its completion.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn children(&self) -> Result<Relatives> {
        let family = self.0.peer.services.store.children(&self.0.id).await?;
        Ok(Relatives::new(&self.0.peer, family))
    }

    /// The subtask of this label; while `handle_error` runs they are there.
    ///
    /// # Errors
    ///
    /// [`Error::NoRelative`] if there is none; those of the database.
    pub async fn child(&self, label: &str) -> Result<Relative> {
        let children = self.children().await?;
        let child = children.labelled(label).cloned();
        child.ok_or_else(|| Error::NoRelative {
            id: self.0.id.clone(),
            wanted: "child of this label",
        })
    }

    fn parent_id(&self, wanted: &'static str) -> Result<&TaskId> {
        self.0.parent.as_ref().ok_or_else(|| Error::NoRelative {
            id: self.0.id.clone(),
            wanted,
        })
    }

    async fn sibling(&self, wanted: &'static str, order: i64) -> Result<Relative> {
        let parent = self.parent_id(wanted)?;
        let sibling = self.0.peer.services.store.child(parent, order).await?;
        let record = sibling.ok_or_else(|| Error::NoRelative {
            id: self.0.id.clone(),
            wanted,
        })?;
        Ok(Relative::new(self.0.peer.clone(), record))
    }

    fn added(&self) -> MutexGuard<'_, Added> {
        self.0
            .added
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Takes what the handler buffered.
    pub(crate) fn take_added(&self) -> Added {
        std::mem::take(&mut self.added())
    }
}

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Task")
            .field("id", &self.0.id)
            .field("attempt", &self.0.attempt)
            .finish_non_exhaustive()
    }
}
