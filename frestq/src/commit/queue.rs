//! The way in to the committer, and how much of it there is.

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

/// How many submissions may wait; past that the peer is overloaded.
pub(super) const MOST_WAITING: usize = 4096;

/// How much of other peers' messages may wait in memory; past that the peer is overloaded.
pub(super) const MOST_KIBIBYTES: u32 = 64 * 1024;

/// Events that go into one transaction together, if they fit.
pub(super) struct Submission {
    pub(super) events: Vec<Event>,
    /// Nobody waits for it: it may linger until others come.
    pub(super) patient: bool,
    /// For the audit, if all of them are accepted: whose decision they are.
    pub(super) entry: Option<Box<Entry>>,
    pub(super) reply: oneshot::Sender<Result<Vec<Answer>>>,
}

/// What has a transaction of its own, between two batches, and who waits for it.
pub(crate) enum Aside {
    /// Remove what is old, and record the entry if anything goes.
    Prune(Step, Option<Box<Entry>>, oneshot::Sender<Result<Pruned>>),
    /// Change the registered peers, and record the entry.
    ChangePeers(PeerChange, Box<Entry>, oneshot::Sender<Result<bool>>),
}

pub(super) enum Command {
    Submit(Submission),
    /// Tasks of the queue may be waiting (another process stored them, or a delay is over).
    Look(Arc<str>),
    /// Do this in a transaction of its own.
    Aside(Aside),
    /// Hand out no more slots.
    StopClaiming,
    /// Finish what was submitted and end; dropped at the end.
    Close(oneshot::Sender<()>),
}

/// The way in.
#[derive(Clone)]
pub(crate) struct CommitQueue {
    pub(super) sender: mpsc::Sender<Command>,
    /// Kibibytes of foreign messages that may still come in.
    pub(super) room: Arc<Semaphore>,
}

impl CommitQueue {
    /// Waits for the transaction that holds the effects of these events.
    pub(crate) async fn submit(&self, events: Vec<Event>) -> Result<Vec<Answer>> {
        self.enter(events, false, None).await
    }

    /// Like [`submit`](Self::submit), for events that nobody waits for.
    pub(crate) async fn submit_patiently(&self, events: Vec<Event>) -> Result<Vec<Answer>> {
        self.enter(events, true, None).await
    }

    /// Like [`submit`](Self::submit), for what a person has decided: recorded if all of it is accepted.
    pub(crate) async fn submit_recorded(
        &self,
        events: Vec<Event>,
        entry: Entry,
    ) -> Result<Vec<Answer>> {
        self.enter(events, false, Some(Box::new(entry))).await
    }

    /// Like [`submit`](Self::submit), unless too much is waiting already.
    pub(crate) async fn submit_unless_overloaded(
        &self,
        events: Vec<Event>,
        bytes: usize,
    ) -> Result<Vec<Answer>> {
        let kibibytes = u32::try_from(bytes / 1024 + 1).unwrap_or(MOST_KIBIBYTES);
        let room = self.room.try_acquire_many(kibibytes.min(MOST_KIBIBYTES));
        // Held until the answer.
        let _room = room.map_err(|_| Error::Overloaded)?;
        if self.sender.is_closed() {
            return Err(Error::Stopping);
        }
        let permit = self.sender.try_reserve().map_err(|_| Error::Overloaded)?;
        let (reply, answers) = oneshot::channel();
        permit.send(Command::Submit(Submission {
            events,
            patient: false,
            entry: None,
            reply,
        }));
        answers.await.unwrap_or(Err(Error::Stopping))
    }

    async fn enter(
        &self,
        events: Vec<Event>,
        patient: bool,
        entry: Option<Box<Entry>>,
    ) -> Result<Vec<Answer>> {
        let permit = self.sender.reserve().await.map_err(|_| Error::Stopping)?;
        let (reply, answers) = oneshot::channel();
        permit.send(Command::Submit(Submission {
            events,
            patient,
            entry,
            reply,
        }));
        answers.await.unwrap_or(Err(Error::Stopping))
    }

    /// Submits a decision about one task, which may be impossible by now, and is recorded if it is not.
    pub(crate) async fn decide(&self, id: &TaskId, event: Event, entry: Entry) -> Result<()> {
        let answers = self.submit_recorded(vec![event], entry).await?;
        judge(id, answers)
    }

    /// Removes what is old, in a transaction of its own; `entry` is recorded if anything goes.
    pub(crate) async fn prune(&self, step: Step, entry: Option<Entry>) -> Result<Pruned> {
        let (reply, pruned) = oneshot::channel();
        let entry = entry.map(Box::new);
        self.command(Command::Aside(Aside::Prune(step, entry, reply)))
            .await;
        pruned.await.unwrap_or(Err(Error::Stopping))
    }

    /// Changes the registered peers, and records the entry in the same transaction. `false`: there was
    /// nothing to remove, and nothing is recorded.
    pub(crate) async fn change_peers(&self, change: PeerChange, entry: Entry) -> Result<bool> {
        let (reply, changed) = oneshot::channel();
        let entry = Box::new(entry);
        self.command(Command::Aside(Aside::ChangePeers(change, entry, reply)))
            .await;
        changed.await.unwrap_or(Err(Error::Stopping))
    }

    pub(crate) async fn look(&self, queue: impl Into<Arc<str>>) {
        self.command(Command::Look(queue.into())).await;
    }

    pub(crate) async fn stop_claiming(&self) {
        self.command(Command::StopClaiming).await;
    }

    pub(crate) async fn close(&self) {
        let (ending, ended) = oneshot::channel();
        self.command(Command::Close(ending)).await;
        // Nothing is ever sent by it.
        let _ = ended.await;
    }

    async fn command(&self, command: Command) {
        // A closed committer has nothing left to be told.
        let _ = self.sender.send(command).await;
    }
}

/// What a decision about one task came to.
fn judge(id: &TaskId, answers: Vec<Answer>) -> Result<()> {
    match answers.into_iter().next_back() {
        Some(Answer::UnknownTask) => Err(Error::UnknownTask(id.clone())),
        Some(Answer::Conflict(why)) => Err(Error::Invalid(why)),
        _ => Ok(()),
    }
}
