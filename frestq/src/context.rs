//! The handle that a handler holds while it runs. It buffers what the handler adds; the engine
//! commits that together with the task's completion.

use std::sync::{Arc, Mutex};

use serde::de::DeserializeOwned;

use crate::{
    error::Result,
    model::{Json, PeerUrl, TaskId},
    peer::Frestq,
    transaction::Transaction,
};

/// The running task, as its handler sees it. Cheap to clone.
#[derive(Clone)]
pub struct Task(Arc<Running>);

struct Running {
    peer: Frestq,
    id: TaskId,
    queue: Box<str>,
    action: Box<str>,
    sender: PeerUrl,
    attempt: i64,
    input: Json,
    transaction: Mutex<Transaction>,
}

/// What a run starts from.
pub(crate) struct Start {
    pub(crate) id: TaskId,
    pub(crate) queue: Box<str>,
    pub(crate) action: Box<str>,
    pub(crate) sender: PeerUrl,
    pub(crate) attempt: i64,
    pub(crate) input: Json,
}

impl Task {
    pub(crate) fn new(peer: Frestq, start: Start) -> Self {
        let Start {
            id,
            queue,
            action,
            sender,
            attempt,
            input,
        } = start;
        Self(Arc::new(Running {
            peer,
            id,
            queue,
            action,
            sender,
            attempt,
            input,
            transaction: Mutex::default(),
        }))
    }

    /// The task's id, the same on both peers.
    pub fn id(&self) -> &TaskId {
        &self.0.id
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
    pub fn sender(&self) -> &PeerUrl {
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

    /// Which run this is, from 1. More than 1 means that earlier ones were cut off, or failed and
    /// the action declares `retries`.
    pub fn attempt(&self) -> u32 {
        u32::try_from(self.0.attempt).unwrap_or(u32::MAX)
    }

    /// The key under which an effect outside of this peer's database is done once: sender and task
    /// id. It is the same in every run of this task and in no other task.
    pub fn effect_key(&self) -> String {
        format!("{} {}", self.0.sender, self.0.id)
    }

    /// The input as a type of yours.
    ///
    /// # Errors
    ///
    /// [`Error::Json`](crate::Error::Json) if the input is of another shape.
    pub fn input<T: DeserializeOwned>(&self) -> Result<T> {
        Ok(serde_json::from_str(self.0.input.get())?)
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
    /// sets the task `finished`. If one of them fails, none has happened and the task ends in error.
    /// They run in this peer's own database, where [`App::schema`](crate::App::schema) makes your tables.
    pub fn transaction(&self, add: impl FnOnce(&mut Transaction)) {
        add(&mut self
            .0
            .transaction
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner()));
    }

    /// Takes what the handler buffered.
    pub(crate) fn take_transaction(&self) -> Transaction {
        std::mem::take(
            &mut self
                .0
                .transaction
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner()),
        )
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
