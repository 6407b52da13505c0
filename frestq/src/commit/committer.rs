//! Group commit: one writer, many events a transaction, one sync for all that wait.
//!
//! Whoever has events submits them and waits for the answers. The committer takes all that has come
//! in, loads the rows they need, lets the engine decide, hands free slots to waiting tasks, writes
//! everything in one transaction, and only then answers and signals.

use std::{collections::HashSet, sync::Arc, time::Duration};

use tokio::sync::{Semaphore, mpsc, oneshot};

use super::{
    admission::Admission,
    audit_chain::AuditChain,
    claimed::ClaimedTask,
    queue::{Aside, Command, CommitQueue, MOST_KIBIBYTES, MOST_WAITING, Submission},
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
    store::{Store, Writer},
};

/// The most events in one transaction.
const MOST_EVENTS: usize = 1024;

/// How long events that nobody waits for may wait for others.
const LINGER: Duration = Duration::from_millis(20);

/// How often a transaction that lost a race against another process is tried.
const MOST_RACES: usize = 10;

/// What the committer works with.
pub(crate) struct Committer {
    pub(crate) store: Arc<Store>,
    pub(crate) writer: Writer,
    pub(crate) node: NodeId,
    pub(crate) url: PeerUrl,
    pub(crate) clock: Clock,
    pub(crate) peers: Arc<PeerDirectory>,
    pub(crate) signals: Arc<Notifier>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) slots: Slots,
    pub(crate) claimed: mpsc::UnboundedSender<ClaimedTask>,
    /// How long a message without an expiration date is tried.
    pub(crate) give_up_after: Duration,
    pub(crate) reservation_timeout: Duration,
    pub(crate) log_payloads: bool,
    pub(crate) doubt: UncertainCommit,
    /// What has a transaction of its own after this batch.
    pub(crate) aside: Option<Aside>,
    /// Where what was asked for is recorded, if it is.
    pub(crate) audit: Option<AuditChain>,
    /// Another process may have started a task that holds a slot here.
    pub(crate) look_at_held: bool,
    pub(crate) recent: TaskCache,
}

/// Whether what is in memory agrees with the rows. It may not after a commit whose answer was lost:
/// it may have come through, with tasks claimed that nobody runs and messages that nobody sends.
#[derive(Default)]
pub(crate) struct UncertainCommit {
    pub(super) open: bool,
    /// Tasks that were handed to the worker, each with the epoch of its claim.
    pub(super) running: HashSet<(TaskId, i64)>,
}

/// What a transaction came to, to be told once it is true.
pub(super) struct Done {
    pub(super) answers: Vec<Answer>,
    pub(super) world: BatchState,
    pub(super) changes: Changes,
    pub(super) outbox: Vec<OutboxRow>,
    pub(super) claimed: Vec<ClaimedTask>,
    pub(super) slots: Slots,
}

impl Committer {
    /// Starts it.
    pub(crate) fn start(self) -> CommitQueue {
        let (sender, receiver) = mpsc::channel(MOST_WAITING);
        tokio::spawn(abort_on_panic("the committer", self.run(receiver)));
        CommitQueue {
            sender,
            room: Arc::new(Semaphore::new(MOST_KIBIBYTES as usize)),
        }
    }

    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let (mut open, mut ending) = (true, Vec::new());
        while open {
            let mut batch = Vec::new();
            open = self.gather(&mut commands, &mut batch, &mut ending).await;
            if std::mem::take(&mut self.look_at_held)
                && let Ok(owned) = self.store.owned(self.node).await
            {
                let owned = owned.into_iter().map(|task| task.state.id);
                self.slots.keep(&owned.collect());
            }
            if !batch.is_empty() || self.slots.wants_to_claim() {
                self.commit_all(batch).await;
            }
            if let Some(aside) = self.aside.take() {
                self.do_aside(aside).await;
            }
        }
    }

    /// Takes what has come in; `false`: this was the last of it.
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
                    let urgent = batch.iter().any(|submission| !submission.patient);
                    if urgent || self.slots.wants_to_claim() {
                        return true;
                    }
                    // Nothing yet, or only what can wait for company.
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
                    if events >= MOST_EVENTS {
                        return true;
                    }
                }
                Command::Look(queue) => {
                    self.slots.look(&queue);
                    self.look_at_held = self.slots.holds_any();
                }
                Command::Aside(aside) => {
                    self.aside = Some(aside);
                    return true;
                }
                Command::StopClaiming => {
                    self.slots.stop();
                    // Whoever runs the claimed tasks sees by this that the last one has come.
                    self.claimed = mpsc::unbounded_channel().0;
                }
                Command::Close(end) => {
                    commands.close();
                    ending.push(end);
                }
            }
        }
    }

    /// Commits a batch; if it fails, each submission alone, so that one bad event spoils no other.
    async fn commit_all(&mut self, batch: Vec<Submission>) {
        self.commit_or_split(batch).await;
        if self.doubt.open
            && let Err(error) = self.resolve_doubt().await
        {
            tracing::warn!(%error, "whether a transaction came through is not known yet; trying again");
            // So that it is tried again even if nothing else happens.
            self.slots.look_everywhere();
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Takes up what a commit has left on disk whose answer was lost.
    async fn resolve_doubt(&mut self) -> Result<()> {
        let owned = self.store.owned(self.node).await?;
        let open = self.store.open_tasks().await?;
        let backlog = self.store.backlog().await?;
        self.doubt.open = false;
        self.recent.forget();
        self.admission.reset(open);
        let holding = owned.iter().filter(|task| task.state.moment.is_none());
        let holding = holding.map(|task| task.state.id.clone()).collect();
        self.slots.keep(&holding);
        for task in owned {
            if task.state.moment.is_none() {
                // It holds its slot, and nothing runs.
                continue;
            }
            let claim = (task.state.id.clone(), task.state.epoch);
            if !self.doubt.running.contains(&claim) {
                self.slots.take_owned(&task.state.queue);
                self.hand_over(task.into());
            }
        }
        self.slots.look_everywhere();
        for (peer, _) in backlog {
            self.signals.wake_outbox(peer, WakeReason::Elsewhere);
        }
        self.signals.watchers.recheck_all();
        self.signals.timer.plan(self.clock.now());
        Ok(())
    }

    async fn commit_or_split(&mut self, batch: Vec<Submission>) {
        match self.commit(&batch).await {
            Ok(done) => self.tell(done, batch),
            Err(error) if batch.len() > 1 || (self.doubt.open && !batch.is_empty()) => {
                tracing::warn!(%error, submissions = batch.len(), "a transaction failed; trying its parts one by one");
                for submission in batch {
                    let alone = [submission];
                    match self.commit(&alone).await {
                        Ok(done) => self.tell(done, alone),
                        Err(error) => refuse(alone, &error),
                    }
                }
            }
            Err(error) => {
                // Nothing to answer may be left when only slots were to be handed out.
                if batch.is_empty() {
                    tracing::warn!(%error, "waiting tasks could not be claimed; trying again");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                refuse(batch, &error);
            }
        }
    }

    async fn commit(&mut self, batch: &[Submission]) -> Result<Done> {
        let mut expect_new = self.recent.expects_new();
        for race in 1.. {
            match self.transaction(batch, expect_new).await {
                Ok(done) => return Ok(done),
                Err(error) if expect_new && crate::store::was_there(&error) => {
                    self.writer.rollback().await?;
                    expect_new = false;
                    self.recent.be_careful();
                }
                Err(error) => {
                    self.recent.forget();
                    self.undo(error, race).await?;
                }
            }
        }
        unreachable!("the loop ends by returning")
    }

    /// Undoes a transaction that failed; an error, unless it is worth another try.
    pub(super) async fn undo(&mut self, error: Error, race: usize) -> Result<()> {
        self.forget_head();
        self.writer.rollback().await?;
        match race >= MOST_RACES || !crate::store::is_transient(&error) {
            true => Err(error),
            false => Ok(()),
        }
    }
}

fn refuse(batch: impl IntoIterator<Item = Submission>, error: &Error) {
    for submission in batch {
        let _ = submission
            .reply
            .send(Err(Error::Storage(error.to_string())));
    }
}
