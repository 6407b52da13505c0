//! The running task, as its handler sees it. It buffers what the handler adds; the engine commits
//! that together with the task's completion.

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

/// A running task, as its handler sees it. Cheap to clone.
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

/// The peer that sent a task.
#[derive(Clone, Debug)]
pub struct Sender {
    pub(crate) url: PeerUrl,
    pub(crate) name: Option<String>,
    pub(crate) certificate: Option<Fingerprint>,
}

impl Sender {
    /// The sender's root queues URL.
    pub fn url(&self) -> &PeerUrl {
        &self.url
    }

    /// The name under which the sender is registered. `None` without `[tls]`, and for a local
    /// task.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The certificate that the sender showed with the task, as `sha256:` and the fingerprint in
    /// hexadecimal. `None` without `[tls]`, and for a local task.
    pub fn certificate(&self) -> Option<String> {
        self.certificate.map(|certificate| certificate.to_string())
    }
}

/// The sender's root queues URL.
impl std::fmt::Display for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.url.fmt(f)
    }
}

/// What the handler has added, to be committed with its completion.
#[derive(Default)]
pub(crate) struct Added {
    pub(crate) transaction: Transaction,
    pub(crate) children: Vec<Draft>,
    pub(crate) output: Option<Result<Json>>,
    pub(crate) parent_output: Option<Result<Json>>,
}

/// The data that a run starts with.
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

    /// The epoch of the claim under which it runs.
    pub(crate) fn epoch(&self) -> i64 {
        self.0.epoch
    }

    /// The task's queue.
    pub fn queue(&self) -> &str {
        &self.0.queue
    }

    /// The task's action.
    pub fn action(&self) -> &str {
        &self.0.action
    }

    /// The peer that sent the task. For a local task it is this peer.
    pub fn sender(&self) -> &Sender {
        &self.0.sender
    }

    /// This peer, for example to send tasks.
    pub fn peer(&self) -> &Frestq {
        &self.0.peer
    }

    /// This peer's root queues URL, for tasks that run here.
    pub fn here(&self) -> &PeerUrl {
        self.0.peer.url()
    }

    /// The number of this run, from 1.
    ///
    /// Runs of `handle_error` count as well. A number above 1 means that earlier runs were
    /// interrupted, or failed and are retried.
    pub fn attempt(&self) -> u32 {
        u32::try_from(self.0.attempt).unwrap_or(u32::MAX)
    }

    /// The text that its sender gave it with `trace`, at most 512 bytes; its subtasks have it
    /// too, unless they have their own. None if it has none, or comes from a peer that sends none.
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

    /// The idempotency key for effects outside this peer's database.
    ///
    /// It consists of the sender's URL and the task's id: the same in every run of this task, and
    /// different for every other task.
    pub fn effect_key(&self) -> String {
        format!("{} {}", self.0.sender.url, self.0.id)
    }

    /// Deserializes the input.
    ///
    /// # Errors
    ///
    /// [`Error::Json`](crate::Error::Json) if the input has another shape.
    pub fn input<T: DeserializeOwned>(&self) -> Result<T> {
        Ok(serde_json::from_str(self.0.input.get())?)
    }

    /// Deserializes the reservation of this task in a synchronized group; `null` if there is
    /// none.
    ///
    /// # Errors
    ///
    /// [`Error::Json`](crate::Error::Json) if it has another shape.
    pub fn reservation<T: DeserializeOwned>(&self) -> Result<T> {
        Ok(serde_json::from_str(self.0.reservation.get())?)
    }

    /// Records the progress of the run, with a note for people.
    ///
    /// `fraction` is from 0 to 1; other values are clamped. `--watch` and `--tree` show the
    /// progress. It is stored when this returns, and stays on this peer.
    ///
    /// # Errors
    ///
    /// Errors of the database; the handler may ignore them.
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

    /// Adds SQL statements that are committed together with the completion of this task: exactly
    /// once, however often the task runs.
    ///
    /// ```no_run
    /// # use frestq::prelude::*;
    /// #[frestq::task(queue = "ballots", action = "count")]
    /// async fn count(votes: i64, task: Task) -> anyhow::Result<()> {
    ///     task.transaction(|tx| {
    ///         tx.execute("INSERT INTO tally (task, votes) VALUES ($1, $2)", (task.id().as_str(),
    /// votes));     });
    ///     Ok(())
    /// }
    /// ```
    ///
    /// The statements run in order after the handler has returned `Ok`, in the transaction that
    /// sets the task to `finished`. If one fails, all are rolled back, and the run fails as if
    /// the handler had returned `Err`. All statements together have `transaction_timeout` (5 s by
    /// default), since they hold up the commits of all other tasks; after that they fail. They run
    /// in this peer's own database, where [`App::schema`](crate::App::schema) creates your tables.
    pub fn transaction(&self, add: impl FnOnce(&mut Transaction)) {
        add(&mut self.added().transaction);
    }

    /// Adds a subtask or a group of subtasks.
    ///
    /// They start after the handler has returned `Ok`, one after the other in the order in which
    /// they were added. The task finishes with the last one.
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
    /// An invalid address, or an unknown action of this peer, ends the task in error. Only
    /// `execute` may add subtasks: in `handle_error` adding is a failure, in other methods it is
    /// logged and ignored.
    pub fn add(&self, child: impl Compose) {
        self.added().children.push(child.into_node().0);
    }

    /// Sets the output of the task, in place of the value that the handler returns.
    ///
    /// This is for an output whose type depends on what the handler finds. It takes effect when
    /// the handler returns `Ok`; the last call counts. Like [`add`](Self::add), it is only for
    /// `execute`.
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
    /// An output that can't be serialized ends the task in error.
    pub fn set_output(&self, output: impl Serialize) {
        self.added().output = Some(to_json(&output).map_err(Into::into));
    }

    /// Sets the output of the task's parent when this task completes. Like [`add`](Self::add), it
    /// is only for `execute`.
    pub fn set_parent_output(&self, output: impl Serialize) {
        self.added().parent_output = Some(to_json(&output).map_err(Into::into));
    }

    /// Waits until the task is cancelled, expires, or is ended with its tree.
    ///
    /// The result of the handler has no effect after that, so the handler can stop.
    pub async fn cancelled(&self) {
        let mut cancelled = self.0.cancelled.clone();
        if cancelled.wait_for(|cancelled| *cancelled).await.is_err() {
            // The run has ended, so nothing cancels it.
            std::future::pending::<()>().await;
        }
    }

    /// Whether the task was cancelled, has expired, or was ended with its tree.
    pub fn is_cancelled(&self) -> bool {
        *self.0.cancelled.borrow()
    }

    /// The parent of this task.
    ///
    /// # Errors
    ///
    /// [`Error::NoRelative`] if it has no parent; errors of the database.
    pub async fn parent(&self) -> Result<Relative> {
        let parent = self.parent_id("parent")?;
        let record = self.0.peer.task(parent).await?;
        Ok(Relative::new(self.0.peer.clone(), record))
    }

    /// The sibling before this task.
    ///
    /// # Errors
    ///
    /// [`Error::NoRelative`] if it is the first one or has no parent; errors of the database.
    pub async fn previous(&self) -> Result<Relative> {
        self.sibling("previous", self.0.order - 1).await
    }

    /// The sibling after this task.
    ///
    /// # Errors
    ///
    /// [`Error::NoRelative`] if it is the last one or has no parent; errors of the database.
    pub async fn next(&self) -> Result<Relative> {
        self.sibling("next", self.0.order + 1).await
    }

    /// The other children of this task's parent, in order.
    ///
    /// # Errors
    ///
    /// [`Error::NoRelative`] if this task has no parent; errors of the database.
    pub async fn siblings(&self) -> Result<Relatives> {
        let parent = self.parent_id("siblings")?;
        let children = self.0.peer.services.store.children(parent).await?;
        let others = children.into_iter().filter(|task| task.id != self.0.id);
        Ok(Relatives::new(&self.0.peer, others))
    }

    /// The subtasks of this task, in order.
    ///
    /// There are none while its handler runs for the first time: the subtasks that it adds are
    /// stored with its completion.
    ///
    /// # Errors
    ///
    /// Errors of the database.
    pub async fn children(&self) -> Result<Relatives> {
        let children = self.0.peer.services.store.children(&self.0.id).await?;
        Ok(Relatives::new(&self.0.peer, children))
    }

    /// The subtask with this label. In `handle_error` the subtasks are stored.
    ///
    /// # Errors
    ///
    /// [`Error::NoRelative`] if there is none; errors of the database.
    pub async fn child(&self, label: &str) -> Result<Relative> {
        let children = self.children().await?;
        let child = children.labelled(label).cloned();
        child.ok_or_else(|| Error::NoRelative {
            id: self.0.id.clone(),
            wanted: "child with this label",
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

    /// Takes what the handler has added.
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
