//! Group commit: one writer, many events a transaction, one sync for all that wait.
//!
//! Whoever has events submits them and waits for the answers. The committer takes all that has come
//! in, loads the rows they need, lets the engine decide, hands free slots to waiting tasks, writes
//! everything in one transaction, and only then answers and signals.

mod slots;
mod story;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::sync::{mpsc, oneshot};

use crate::{
    admission::Admission,
    clock::Clock,
    engine::{self, Answer, Changes, Event, Turn, Verdict, Wanted, World},
    error::{Error, Result, TaskError},
    model::{
        Json, MessageId, NodeId, OutboxRow, Outgoing, PeerId, PeerUrl, Role, TaskId, TaskState,
    },
    peers::Peers,
    signals::{Ended, Signals, WakeReason},
    store::{OutboxState, Settled, Store, Writer, Writes},
    wire::message::{Receiver, freeze},
};
pub(crate) use slots::Slots;

/// The most events in one transaction.
const MOST_EVENTS: usize = 1024;

/// How many submissions may wait; past that the peer is overloaded.
const MOST_WAITING: usize = 4096;

/// How long events that nobody waits for may wait for others.
const LINGER: Duration = Duration::from_millis(20);

/// How often a transaction that lost a race against another process is tried.
const MOST_RACES: usize = 10;

/// Events that go into one transaction together, if they fit.
struct Submission {
    events: Vec<Event>,
    /// Nobody waits for it: it may linger until others come.
    patient: bool,
    reply: oneshot::Sender<Result<Vec<Answer>>>,
}

enum Command {
    Submit(Submission),
    /// Tasks of the queue may be waiting (another process stored them, or a delay is over).
    Look(Box<str>),
    /// Hand out no more slots.
    StopClaiming,
    /// Finish what was submitted and end; dropped at the end.
    Close(oneshot::Sender<()>),
}

/// A task that got a slot: to be run now.
#[derive(Debug)]
pub(crate) struct Claimed {
    pub(crate) state: TaskState,
    pub(crate) input: Json,
}

/// The way in.
#[derive(Clone)]
pub(crate) struct Commits(mpsc::Sender<Command>);

impl Commits {
    /// Waits for the transaction that holds the effects of these events.
    pub(crate) async fn submit(&self, events: Vec<Event>) -> Result<Vec<Answer>> {
        self.enter(events, false).await
    }

    /// Like [`submit`](Self::submit), for events that nobody waits for.
    pub(crate) async fn submit_patiently(&self, events: Vec<Event>) -> Result<Vec<Answer>> {
        self.enter(events, true).await
    }

    /// Like [`submit`](Self::submit), unless too much is waiting already.
    pub(crate) async fn submit_unless_overloaded(&self, events: Vec<Event>) -> Result<Vec<Answer>> {
        if self.0.is_closed() {
            return Err(Error::Stopping);
        }
        let permit = self.0.try_reserve().map_err(|_| Error::Overloaded)?;
        let (reply, answers) = oneshot::channel();
        permit.send(Command::Submit(Submission {
            events,
            patient: false,
            reply,
        }));
        answers.await.unwrap_or(Err(Error::Stopping))
    }

    async fn enter(&self, events: Vec<Event>, patient: bool) -> Result<Vec<Answer>> {
        let (reply, answers) = oneshot::channel();
        let command = Command::Submit(Submission {
            events,
            patient,
            reply,
        });
        self.0.send(command).await.map_err(|_| Error::Stopping)?;
        answers.await.unwrap_or(Err(Error::Stopping))
    }

    pub(crate) async fn look(&self, queue: impl Into<Box<str>>) {
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
        let _ = self.0.send(command).await;
    }
}

/// What the committer works with.
pub(crate) struct Committer {
    pub(crate) store: Arc<Store>,
    pub(crate) writer: Writer,
    pub(crate) node: NodeId,
    pub(crate) url: PeerUrl,
    pub(crate) clock: Clock,
    pub(crate) peers: Arc<Peers>,
    pub(crate) signals: Arc<Signals>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) slots: Slots,
    pub(crate) claimed: mpsc::UnboundedSender<Claimed>,
    /// How long a message without an expiration date is tried.
    pub(crate) give_up_after: Duration,
    pub(crate) log_payloads: bool,
    pub(crate) doubt: Doubt,
}

/// Whether what is in memory agrees with the rows. It may not after a commit whose answer was lost:
/// it may have come through, with tasks claimed that nobody runs and messages that nobody sends.
#[derive(Default)]
pub(crate) struct Doubt {
    open: bool,
    /// Tasks that were handed to the worker, each with the epoch of its claim.
    running: HashSet<(TaskId, i64)>,
}

/// What a transaction came to, to be told once it is true.
struct Done {
    answers: Vec<Answer>,
    world: World,
    changes: Changes,
    outbox: Vec<OutboxRow>,
    claimed: Vec<Claimed>,
    slots: Slots,
}

impl Committer {
    /// Starts it.
    pub(crate) fn start(self) -> Commits {
        let (sender, receiver) = mpsc::channel(MOST_WAITING);
        tokio::spawn(self.run(receiver));
        Commits(sender)
    }

    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let (mut open, mut ending) = (true, Vec::new());
        while open {
            let mut batch = Vec::new();
            open = self.gather(&mut commands, &mut batch, &mut ending).await;
            if !batch.is_empty() || self.slots.wants_to_claim() {
                self.commit_all(batch).await;
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
                Command::Look(queue) => self.slots.look(&queue),
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
        self.admission.reset(open);
        for (state, input) in owned {
            if self.doubt.running.insert((state.id.clone(), state.epoch)) {
                self.slots.take_owned(&state.queue);
                let _ = self.claimed.send(Claimed { state, input });
            }
        }
        self.slots.look_everywhere();
        for (peer, _) in backlog {
            self.signals.wake_outbox(peer, WakeReason::Elsewhere);
        }
        self.signals.watchers.look_all();
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
        for race in 1.. {
            match self.transaction(batch).await {
                Ok(done) => return Ok(done),
                Err(error) => {
                    self.writer.rollback().await?;
                    if race >= MOST_RACES || !crate::store::is_transient(&error) {
                        return Err(error);
                    }
                }
            }
        }
        unreachable!("the loop ends by returning")
    }

    async fn transaction(&mut self, batch: &[Submission]) -> Result<Done> {
        let now = self.clock.now();
        let mut slots = self.slots.clone();
        let (mut world, mut changes) = (World::default(), Changes::default());
        let events: Vec<&Event> = batch
            .iter()
            .flat_map(|submission| &submission.events)
            .collect();
        let mut answers: Vec<Option<Answer>> = vec![None; events.len()];
        let mut wanted = Wanted::default();
        for event in &events {
            engine::foresee(event, &mut wanted);
            if let Event::Send(task) = event
                && self.doubt.open
            {
                wanted.tasks.insert(task.state.id.clone());
            }
        }
        self.writer.begin().await?;
        if !wanted.is_empty() {
            self.load(wanted, &mut world).await?;
        }
        loop {
            let mut wanted = Wanted::default();
            for (event, answer) in events
                .iter()
                .zip(&mut answers)
                .filter(|(_, answer)| answer.is_none())
            {
                let mut turn = Turn::new(&world);
                match engine::step(&mut turn, event, now) {
                    Ok(given) => {
                        let failed = self.run_statements(event, &given).await?;
                        if let Some(error) = failed {
                            turn = Turn::new(&world);
                            let _ = engine::step(&mut turn, &error, now);
                        }
                        let (tasks, mine) = turn.finish();
                        world.apply(tasks, mine, &mut changes);
                        *answer = Some(given);
                    }
                    Err(missing) => wanted.add(missing),
                }
            }
            if wanted.is_empty() {
                break;
            }
            self.load(wanted, &mut world).await?;
        }
        for event in &events {
            if let Event::Completed { queue, .. } = event {
                slots.free(queue);
            }
        }
        let mut claimed = self.claim_fresh(&mut slots, &mut world, &changes, now);
        let mut outbox = self.freeze(&changes, now).await?;
        self.writer.save(&writes(&world, &changes, &outbox)).await?;
        self.claim_waiting(&mut slots, &mut claimed, now).await?;
        let committed = self.writer.commit().await;
        self.doubt.open |= committed.is_err();
        let places: HashMap<MessageId, i64> = committed?.into_iter().collect();
        for row in &mut outbox {
            row.seq = places.get(&row.message).copied().unwrap_or_default();
        }
        // Every event was answered, or the loop above would not have ended.
        let answers = answers.into_iter().flatten().collect();
        Ok(Done {
            answers,
            world,
            changes,
            outbox,
            claimed,
            slots,
        })
    }

    /// Runs the statements of a handler whose completion counts; if one fails, gives the completion
    /// that takes its place.
    async fn run_statements(&mut self, event: &Event, answer: &Answer) -> Result<Option<Event>> {
        let Event::Completed {
            outcome: Ok(_),
            transaction,
            ..
        } = event
        else {
            return Ok(None);
        };
        if transaction.statements.is_empty() || *answer != Answer::Accepted {
            return Ok(None);
        }
        let failed = match transaction.meddling() {
            Some(sql) => Some(format!("a handler can't begin or end transactions: {sql}")),
            None => self.writer.run(transaction).await?.err(),
        };
        Ok(failed.map(|why| {
            let mut failed = event.clone();
            if let Event::Completed { outcome, .. } = &mut failed {
                *outcome = Err(TaskError::new(
                    TaskError::FAILED,
                    format!("its transaction failed: {why}"),
                ));
            }
            failed
        }))
    }

    async fn load(&mut self, wanted: Wanted, world: &mut World) -> Result<()> {
        let (tasks, inbox): (Vec<_>, Vec<_>) =
            (wanted.tasks.iter().collect(), wanted.inbox.iter().collect());
        let loaded = self.writer.load(&tasks, &inbox).await?;
        let tasks = loaded.tasks.into_iter();
        world
            .tasks
            .extend(tasks.map(|state| (state.id.clone(), Some(state))));
        let inbox = loaded.inbox.into_iter();
        world
            .inbox
            .extend(inbox.map(|(key, hash)| (key, Some(hash))));
        for id in wanted.tasks {
            world.tasks.entry(id).or_insert(None);
        }
        for key in wanted.inbox {
            world.inbox.entry(key).or_insert(None);
        }
        Ok(())
    }

    /// A new task for a queue with a free slot, and nobody waiting before it, starts in the very
    /// transaction that stores it.
    fn claim_fresh(
        &self,
        slots: &mut Slots,
        world: &mut World,
        changes: &Changes,
        now: jiff::Timestamp,
    ) -> Vec<Claimed> {
        let mut claimed = Vec::new();
        for new in &changes.created {
            let Some(Some(state)) = world.tasks.get_mut(&new.state.id) else {
                continue;
            };
            if !engine::runs_now(state, now) {
                continue;
            }
            if slots.take_fresh(&state.queue) {
                engine::claim(state, self.node, now);
                claimed.push(Claimed {
                    state: state.clone(),
                    input: new.input.clone(),
                });
            }
        }
        // A run that failed or was cut off waits behind the others of its queue.
        for id in &changes.changed {
            if let Some(Some(state)) = world.tasks.get(id)
                && engine::runs_now(state, now)
            {
                slots.look(&state.queue);
            }
        }
        claimed
    }

    /// Hands the slots that are left to tasks that wait in the database.
    async fn claim_waiting(
        &mut self,
        slots: &mut Slots,
        claimed: &mut Vec<Claimed>,
        now: jiff::Timestamp,
    ) -> Result<()> {
        let mut fetched = Vec::new();
        for (queue, free) in slots.hungry() {
            let limit = i64::try_from(free).unwrap_or(i64::MAX);
            let rows = self.writer.waiting(&queue, limit, now).await?;
            slots.took(&queue, rows.len());
            fetched.extend(rows);
        }
        if fetched.is_empty() {
            return Ok(());
        }
        for (state, _) in &mut fetched {
            engine::claim(state, self.node, now);
        }
        let changed = fetched.iter().map(|(state, _)| (state, None)).collect();
        self.writer
            .save(&Writes {
                changed,
                ..Writes::default()
            })
            .await?;
        claimed.extend(
            fetched
                .into_iter()
                .map(|(state, input)| Claimed { state, input }),
        );
        Ok(())
    }

    /// Gives each outgoing message its id and its final bytes.
    async fn freeze(&self, changes: &Changes, now: jiff::Timestamp) -> Result<Vec<OutboxRow>> {
        let mut rows = Vec::with_capacity(changes.outgoing.len());
        for message in &changes.outgoing {
            let peer = self.peers.get(&self.store, message.peer).await?;
            let id = MessageId::generate();
            let receiver = Receiver {
                url: &peer.url,
                extensions: peer.health.extensions,
            };
            rows.push(OutboxRow {
                seq: 0,
                peer: message.peer,
                body: freeze(message, &id, &self.url, &receiver)?.into(),
                message: id,
                queue: message.queue.clone(),
                action: message.action.clone(),
                task: message.task.clone(),
                carries_task: message.carries_task,
                expires_at: message.expires_at.or(self.end_of_delayed(message)),
                attempts: 0,
                due_at: message.not_before.unwrap_or(now),
                created_at: now,
            });
        }
        Ok(rows)
    }

    /// When to give up a message that is not to be sent yet: it has as much time as others, from its
    /// first attempt on.
    fn end_of_delayed(&self, message: &Outgoing) -> Option<jiff::Timestamp> {
        let first = message.not_before?;
        first.checked_add(self.give_up_after).ok()
    }

    /// Answers, and signals what is true now.
    fn tell(&mut self, done: Done, batch: impl IntoIterator<Item = Submission>) {
        let Done {
            answers,
            world,
            changes,
            outbox,
            claimed,
            slots,
        } = done;
        self.slots = slots;
        // First of all what counts, so that the next message is judged by it.
        self.tell_changes(&world, &changes);
        // Then what is to be delivered: who stops once he has his answer leaves nothing behind.
        let mut stored: HashMap<PeerId, Vec<Arc<OutboxRow>>> = HashMap::new();
        for row in outbox {
            if row.due_at > row.created_at {
                let reason = WakeReason::DueAt(row.due_at);
                self.signals.wake_outbox(row.peer, reason);
            } else {
                stored.entry(row.peer).or_default().push(Arc::new(row));
            }
        }
        for (peer, rows) in stored {
            self.signals.wake_outbox(peer, WakeReason::Stored(rows));
        }
        let mut answers = answers.into_iter();
        for submission in batch {
            for event in &submission.events {
                if let Event::Completed { id, epoch, .. } = event {
                    self.doubt.running.remove(&(id.clone(), *epoch));
                }
            }
            let mine = answers.by_ref().take(submission.events.len()).collect();
            // Who has stopped waiting learns of it by other means.
            let _ = submission.reply.send(Ok(mine));
        }
        story::tell(&self.peers, &world, &changes, &claimed, self.log_payloads);
        for task in claimed {
            let claim = (task.state.id.clone(), task.state.epoch);
            self.doubt.running.insert(claim);
            // Without a worker the peer is stopping, and the lease is released with the rest.
            let _ = self.claimed.send(task);
        }
    }

    fn tell_changes(&self, world: &World, changes: &Changes) {
        let mut open: HashMap<PeerId, i64> = HashMap::new();
        let watched = !self.signals.watchers.is_empty();
        let created = changes.created.iter().map(|new| (&new.state.id, true));
        let changed = changes.changed.iter().map(|id| (id, false));
        for (id, new) in created.chain(changed) {
            let Some(Some(state)) = world.tasks.get(id) else {
                continue;
            };
            let ended = state.status.is_terminal();
            if state.role == Role::Received {
                // A task that came and ended in the same transaction is in both lists.
                *open.entry(state.peer).or_default() += i64::from(new) - i64::from(!new && ended);
            }
            if let Some(at) = state.run_at.filter(|_| state.role != Role::Sent) {
                self.signals.timer.plan(at);
            }
            if let Some(at) = state.expires_at.filter(|_| new && !ended) {
                self.signals.timer.plan(at);
            }
            if watched && ended && !new {
                let output = changes
                    .outputs
                    .get(id)
                    .cloned()
                    .unwrap_or_else(crate::model::null);
                self.signals.watchers.tell(
                    id,
                    &Ended {
                        status: state.status,
                        output,
                    },
                );
            }
        }
        self.admission.add(&open);
    }
}

fn refuse(batch: impl IntoIterator<Item = Submission>, error: &Error) {
    for submission in batch {
        let _ = submission
            .reply
            .send(Err(Error::Storage(error.to_string())));
    }
}

/// The rows as they are at the end of the batch.
fn writes<'a>(world: &'a World, changes: &'a Changes, outgoing: &'a [OutboxRow]) -> Writes<'a> {
    let state = |id| world.tasks.get(id).and_then(Option::as_ref);
    Writes {
        created: changes
            .created
            .iter()
            .filter_map(|new| {
                Some((
                    new,
                    state(&new.state.id)?,
                    changes.outputs.get(&new.state.id),
                ))
            })
            .collect(),
        changed: changes
            .changed
            .iter()
            .filter_map(|id| Some((state(id)?, changes.outputs.get(id))))
            .filter(|(state, _)| state.seq != 0)
            .collect(),
        accepted: &changes.accepted,
        outgoing,
        settled: changes
            .deliveries
            .iter()
            .map(|delivery| {
                let (state, answer, due_at, error) = match &delivery.verdict {
                    Verdict::Delivered => (OutboxState::Delivered, 200, None, None),
                    Verdict::Refused { status, why } => {
                        (OutboxState::Failed, *status, None, Some(why.as_str()))
                    }
                    Verdict::Later { at, status, why } => {
                        (OutboxState::Pending, *status, Some(*at), Some(why.as_str()))
                    }
                    Verdict::GivenUp { why } => (OutboxState::Failed, 0, None, Some(why.as_str())),
                };
                Settled {
                    seq: delivery.message.seq,
                    state,
                    answer,
                    due_at,
                    error,
                }
            })
            .collect(),
    }
}
