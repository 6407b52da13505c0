//! Group commit: one writer, many events in a transaction, one sync for all of them.
//!
//! Callers submit events and wait for the answers. The committer takes all events that have
//! arrived, loads the rows they need, lets the engine decide, gives free slots to waiting tasks,
//! writes everything in one transaction, and only then answers and notifies.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::sync::{Semaphore, mpsc, oneshot};

use super::{
    admission::Admission,
    audit_chain::AuditChain,
    claimed::ClaimedTask,
    queue::{Command, CommitQueue, MAX_KIBIBYTES, MAX_SUBMISSIONS, Standalone, Submission},
    slots::Slots,
    task_cache::TaskCache,
};
use crate::{
    engine::{Answer, BatchState, Changes},
    model::{
        NodeId, OutboxRow, PeerUrl, TaskId,
        error::{Error, Result},
    },
    peers::directory::PeerDirectory,
    runtime::{
        clock::Clock,
        notify::{Notifier, WakeReason},
        supervisor::abort_on_panic,
    },
    store::{StatementFailure, Store, Writer},
};

/// The maximum number of events in one transaction.
const MAX_EVENTS: usize = 1024;

/// How long events without a waiting caller may linger until others arrive.
const LINGER: Duration = Duration::from_millis(20);

/// How often a transaction is tried that conflicts with another process.
const MAX_ATTEMPTS: usize = 10;

/// The one writer of a process.
pub(crate) struct Committer {
    pub(crate) store: Arc<Store>,
    pub(crate) writer: Writer,
    pub(crate) node: NodeId,
    pub(crate) url: PeerUrl,
    pub(crate) clock: Clock,
    pub(crate) peers: Arc<PeerDirectory>,
    pub(crate) notifier: Arc<Notifier>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) slots: Slots,
    pub(crate) claimed: mpsc::UnboundedSender<ClaimedTask>,
    /// How long the delivery of a message without an expiration date is tried.
    pub(crate) give_up_after: Duration,
    pub(crate) reservation_timeout: Duration,
    /// How long the statements of one handler may take.
    pub(crate) transaction_timeout: Duration,
    /// Runs whose statements took a whole transaction with them, and why: they failed, and are
    /// not tried again when it is repeated.
    pub(crate) undone: HashMap<(TaskId, i64), StatementFailure>,
    pub(crate) log_payloads: bool,
    pub(crate) uncertain: UncertainCommit,
    /// A command with a transaction of its own, to run after this batch.
    pub(crate) standalone: Option<Standalone>,
    /// The audit chain, if the audit is on.
    pub(crate) audit: Option<AuditChain>,
    /// Another process may have started a task that holds a slot here.
    pub(crate) recheck_held: bool,
    pub(crate) task_cache: TaskCache,
}

/// Whether memory may disagree with the rows. That is so after an uncertain commit, whose answer
/// was lost: if it was committed, tasks are claimed that don't run and messages are stored that
/// are not sent.
#[derive(Default)]
pub(crate) struct UncertainCommit {
    pub(super) pending: bool,
    /// The tasks that the worker runs, each with the epoch of its claim.
    pub(super) running: HashSet<(TaskId, i64)>,
}

/// The result of a transaction, to be published once it is committed.
pub(super) struct Done {
    pub(super) answers: Vec<Answer>,
    pub(super) batch_state: BatchState,
    pub(super) changes: Changes,
    pub(super) outbox: Vec<OutboxRow>,
    pub(super) claimed: Vec<ClaimedTask>,
    pub(super) slots: Slots,
}

impl Committer {
    /// Starts the committer.
    pub(crate) fn start(self) -> CommitQueue {
        let (sender, receiver) = mpsc::channel(MAX_SUBMISSIONS);
        tokio::spawn(abort_on_panic("the committer", self.run(receiver)));
        CommitQueue {
            sender,
            memory: Arc::new(Semaphore::new(MAX_KIBIBYTES as usize)),
        }
    }

    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let (mut open, mut ending) = (true, Vec::new());
        while open {
            let mut batch = Vec::new();
            open = self.gather(&mut commands, &mut batch, &mut ending).await;
            if std::mem::take(&mut self.recheck_held)
                && let Ok(owned) = self.store.owned(self.node).await
            {
                let owned = owned.into_iter().map(|task| task.state.id);
                self.slots.keep_owned(&owned.collect());
            }
            if !batch.is_empty() || self.slots.can_claim() {
                self.commit_all(batch).await;
            }
            if let Some(standalone) = self.standalone.take() {
                self.run_standalone(standalone).await;
            }
        }
    }

    /// Gathers a batch from the commands that have arrived. Returns `false` after the last one.
    async fn gather(
        &mut self,
        commands: &mut mpsc::Receiver<Command>,
        batch: &mut Vec<Submission>,
        ending: &mut Vec<oneshot::Sender<()>>,
    ) -> bool {
        let mut events = 0;
        let mut linger = None;
        loop {
            let command = match commands.try_recv() {
                Ok(command) => command,
                Err(mpsc::error::TryRecvError::Disconnected) => return false,
                Err(mpsc::error::TryRecvError::Empty) => {
                    let urgent = batch.iter().any(|submission| !submission.may_linger);
                    if urgent || self.slots.can_claim() {
                        return true;
                    }
                    // There is nothing yet, or only events that may linger.
                    let next = if batch.is_empty() {
                        commands.recv().await
                    } else {
                        let until =
                            *linger.get_or_insert_with(|| tokio::time::Instant::now() + LINGER);
                        match tokio::time::timeout_at(until, commands.recv()).await {
                            Ok(command) => command,
                            Err(_) => return true,
                        }
                    };
                    match next {
                        Some(command) => command,
                        None => return false,
                    }
                }
            };
            match command {
                Command::Submit(submission) => {
                    events += submission.events.len();
                    batch.push(submission);
                    if events >= MAX_EVENTS {
                        return true;
                    }
                }
                Command::TasksWaiting(queue) => {
                    self.slots.mark_waiting(&queue);
                    self.recheck_held = self.slots.holds_any();
                }
                Command::Standalone(standalone) => {
                    self.standalone = Some(standalone);
                    return true;
                }
                Command::StopClaiming => {
                    self.slots.stop();
                    // Closing the channel shows the worker that no further task is claimed.
                    self.claimed = mpsc::unbounded_channel().0;
                }
                Command::Close(end) => {
                    commands.close();
                    ending.push(end);
                }
            }
        }
    }

    /// Commits a batch. If that fails, commits each submission separately, so that one bad event
    /// affects no other.
    async fn commit_all(&mut self, batch: Vec<Submission>) {
        self.commit_or_split(batch).await;
        self.undone.clear();
        if self.uncertain.pending
            && let Err(error) = self.resolve_uncertain_commit().await
        {
            tracing::warn!(
                target: "frestq::commit",
                error = %error.with_causes(),
                "it is not known yet whether a transaction was committed; trying again",
            );
            // This makes the loop try again even if no command arrives.
            self.slots.mark_all_waiting();
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Brings memory in line with the rows after an uncertain commit.
    async fn resolve_uncertain_commit(&mut self) -> Result<()> {
        let owned = self.store.owned(self.node).await?;
        let open = self.store.open_tasks().await?;
        let backlog = self.store.backlog().await?;
        self.uncertain.pending = false;
        self.task_cache.forget();
        self.admission.reset(open);
        let holding = owned.iter().filter(|task| task.state.moment.is_none());
        let holding = holding.map(|task| task.state.id.clone()).collect();
        self.slots.keep_owned(&holding);
        for task in owned {
            if task.state.moment.is_none() {
                // It holds its slot while nothing runs.
                continue;
            }
            let claim = (task.state.id.clone(), task.state.epoch);
            if !self.uncertain.running.contains(&claim) {
                self.slots.take_owned(&task.state.queue);
                self.start_run(task.into());
            }
        }
        self.slots.mark_all_waiting();
        for (peer, _) in backlog {
            self.notifier.wake_outbox(peer, WakeReason::Elsewhere);
        }
        self.notifier.watchers.recheck_all();
        self.notifier.timer.plan(self.clock.now());
        Ok(())
    }

    async fn commit_or_split(&mut self, batch: Vec<Submission>) {
        match self.commit(&batch).await {
            Ok(done) => self.publish(done, batch),
            Err(error) if batch.len() > 1 || (self.uncertain.pending && !batch.is_empty()) => {
                tracing::warn!(
                    target: "frestq::commit",
                    error = %error.with_causes(),
                    submissions = batch.len(),
                    "a transaction failed; trying its submissions one by one",
                );
                for submission in batch {
                    let single = [submission];
                    match self.commit(&single).await {
                        Ok(done) => self.publish(done, single),
                        Err(error) => reject(single, error),
                    }
                }
            }
            Err(error) => {
                // The batch is empty if the transaction was only to claim waiting tasks.
                if batch.is_empty() {
                    tracing::warn!(
                        target: "frestq::commit",
                        error = %error.with_causes(),
                        "waiting tasks could not be claimed; trying again",
                    );
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                reject(batch, error);
            }
        }
    }

    async fn commit(&mut self, batch: &[Submission]) -> Result<Done> {
        let mut expect_new = self.task_cache.expects_new();
        for attempt in 1.. {
            let undone = self.undone.len();
            match self.transaction(batch, expect_new).await {
                Ok(done) => return Ok(done),
                Err(error) if expect_new && crate::store::was_there(&error) => {
                    self.writer.rollback().await?;
                    expect_new = false;
                    self.task_cache.be_careful();
                }
                Err(_) if self.undone.len() > undone => {
                    self.task_cache.forget();
                    self.forget_head();
                    self.writer.rollback().await?;
                }
                Err(error) => {
                    self.task_cache.forget();
                    self.undo(error, attempt).await?;
                }
            }
        }
        unreachable!("the loop ends by returning")
    }

    /// Rolls back a transaction that failed. Returns the error unless another attempt makes
    /// sense.
    pub(super) async fn undo(&mut self, error: Error, attempt: usize) -> Result<()> {
        self.forget_head();
        self.writer.rollback().await?;
        match attempt >= MAX_ATTEMPTS || !crate::store::is_transient(&error) {
            true => Err(error),
            false => Ok(()),
        }
    }
}

/// Answers the one submission that there was, if there was one.
fn reject(batch: impl IntoIterator<Item = Submission>, error: Error) {
    if let Some(submission) = batch.into_iter().next() {
        let _ = submission.reply.send(Err(error));
    }
}
