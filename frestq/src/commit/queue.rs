//! The queue of the committer, and its limits.

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::{
    engine::{Answer, Event},
    model::{
        PeerChange, TaskId,
        audit::Entry,
        error::{Error, Result},
    },
    store::{Pruned, Step},
};

/// The maximum number of waiting submissions. Past it, the peer is overloaded.
pub(super) const MAX_SUBMISSIONS: usize = 4096;

/// The maximum size of other peers' messages that wait in memory. Past it, the peer is
/// overloaded.
pub(super) const MAX_KIBIBYTES: u32 = 64 * 1024;

/// Events that are committed in one transaction.
pub(super) struct Submission {
    pub(super) events: Vec<Event>,
    /// No caller waits for it, so it may linger until others arrive.
    pub(super) may_linger: bool,
    /// The entry for the audit, recorded if all events are accepted.
    pub(super) entry: Option<Box<Entry>>,
    pub(super) reply: oneshot::Sender<Result<Vec<Answer>>>,
}

/// A command with a transaction of its own, and the channel for its answer.
pub(crate) enum Standalone {
    /// Prune old rows, and record the entry if any row is removed.
    Prune(Step, Option<Box<Entry>>, oneshot::Sender<Result<Pruned>>),
    /// Change the registered peers, and record the entry if anything changes.
    ChangePeers(PeerChange, Box<Entry>, oneshot::Sender<Result<bool>>),
}

pub(super) enum Command {
    Submit(Submission),
    /// Tasks of this queue may be waiting: another process has stored them, or a delay is over.
    TasksWaiting(Arc<str>),
    /// Run this in a transaction of its own.
    Standalone(Standalone),
    /// Claim no more tasks.
    StopClaiming,
    /// Commit what was submitted, then end. The sender is dropped at the end.
    Close(oneshot::Sender<()>),
}

/// The sending side of the committer's queue. Cheap to clone.
#[derive(Clone)]
pub(crate) struct CommitQueue {
    pub(super) sender: mpsc::Sender<Command>,
    /// The kibibytes of other peers' messages that may still be submitted.
    pub(super) memory: Arc<Semaphore>,
}

impl CommitQueue {
    /// Submits events and waits until their transaction is committed.
    pub(crate) async fn submit(&self, events: Vec<Event>) -> Result<Vec<Answer>> {
        self.enter(events, false, None).await
    }

    /// Like [`submit`](Self::submit), for events that may linger because no caller waits.
    pub(crate) async fn submit_patiently(&self, events: Vec<Event>) -> Result<Vec<Answer>> {
        self.enter(events, true, None).await
    }

    /// Like [`submit`](Self::submit), with an audit entry that is recorded if all events are
    /// accepted.
    pub(crate) async fn submit_recorded(
        &self,
        events: Vec<Event>,
        entry: Entry,
    ) -> Result<Vec<Answer>> {
        self.enter(events, false, Some(Box::new(entry))).await
    }

    /// Like [`submit`](Self::submit), but fails with [`Error::Overloaded`] at once if too much is
    /// waiting.
    pub(crate) async fn submit_unless_overloaded(
        &self,
        events: Vec<Event>,
        bytes: usize,
    ) -> Result<Vec<Answer>> {
        let kibibytes = u32::try_from(bytes / 1024 + 1).unwrap_or(MAX_KIBIBYTES);
        let permit = self.memory.try_acquire_many(kibibytes.min(MAX_KIBIBYTES));
        // Held until the answer arrives.
        let _memory = permit.map_err(|_| Error::Overloaded)?;
        if self.sender.is_closed() {
            return Err(Error::Stopping);
        }
        let permit = self.sender.try_reserve().map_err(|_| Error::Overloaded)?;
        let (reply, answers) = oneshot::channel();
        permit.send(Command::Submit(Submission {
            events,
            may_linger: false,
            entry: None,
            reply,
        }));
        answers.await.unwrap_or(Err(Error::Stopping))
    }

    async fn enter(
        &self,
        events: Vec<Event>,
        may_linger: bool,
        entry: Option<Box<Entry>>,
    ) -> Result<Vec<Answer>> {
        let permit = self.sender.reserve().await.map_err(|_| Error::Stopping)?;
        let (reply, answers) = oneshot::channel();
        permit.send(Command::Submit(Submission {
            events,
            may_linger,
            entry,
            reply,
        }));
        answers.await.unwrap_or(Err(Error::Stopping))
    }

    /// Submits a decision about one task, with its audit entry. Fails if the task's state does
    /// not allow it.
    pub(crate) async fn decide(&self, id: &TaskId, event: Event, entry: Entry) -> Result<()> {
        let answers = self.submit_recorded(vec![event], entry).await?;
        decision_result(id, answers)
    }

    /// Prunes old rows in a transaction of its own, and records `entry` if any row is removed.
    pub(crate) async fn prune(&self, step: Step, entry: Option<Entry>) -> Result<Pruned> {
        let (reply, pruned) = oneshot::channel();
        let entry = entry.map(Box::new);
        self.command(Command::Standalone(Standalone::Prune(step, entry, reply)))
            .await;
        pruned.await.unwrap_or(Err(Error::Stopping))
    }

    /// Changes the registered peers, and records the entry in the same transaction. Returns
    /// `false`, and records nothing, if there was nothing to remove.
    pub(crate) async fn change_peers(&self, change: PeerChange, entry: Entry) -> Result<bool> {
        let (reply, changed) = oneshot::channel();
        let entry = Box::new(entry);
        self.command(Command::Standalone(Standalone::ChangePeers(
            change, entry, reply,
        )))
        .await;
        changed.await.unwrap_or(Err(Error::Stopping))
    }

    pub(crate) async fn look(&self, queue: impl Into<Arc<str>>) {
        self.command(Command::TasksWaiting(queue.into())).await;
    }

    pub(crate) async fn stop_claiming(&self) {
        self.command(Command::StopClaiming).await;
    }

    pub(crate) async fn close(&self) {
        let (ending, ended) = oneshot::channel();
        self.command(Command::Close(ending)).await;
        // Nothing is sent; the end of the committer drops the sender.
        let _ = ended.await;
    }

    async fn command(&self, command: Command) {
        // A closed committer has ended, so there is nothing left to do.
        let _ = self.sender.send(command).await;
    }
}

/// The result of a decision about one task.
fn decision_result(id: &TaskId, answers: Vec<Answer>) -> Result<()> {
    match answers.into_iter().next_back() {
        Some(Answer::UnknownTask) => Err(Error::UnknownTask(id.clone())),
        Some(Answer::Conflict(why)) => Err(Error::Invalid(why)),
        _ => Ok(()),
    }
}
