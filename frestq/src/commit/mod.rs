//! Group commit: one writer, many events a transaction, one sync for all that wait.
//!
//! Whoever has events submits them and waits for the answers. The committer takes all that has come
//! in, loads the rows they need, lets the engine decide, hands free slots to waiting tasks, writes
//! everything in one transaction, and only then answers and signals.

mod slots;
mod story;

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::{
    admission::Admission,
    clock::Clock,
    engine::{self, Answer, Changes, Event, Turn, Verdict, Wanted, World},
    error::{Error, Result, TaskError},
    model::{
        Data, Json, MessageId, Moment, NewTask, NodeId, OutboxRow, Outgoing, PeerId, PeerUrl, Role,
        TaskId, TaskState,
    },
    peers::Peers,
    signals::{Ended, Signals, WakeReason},
    store::{Content, Loaded, Lookup, OutboxState, Settled, Store, Waiting, Writer, Writes},
    vital::vital,
    wire::message::{Payload, Receiver, freeze},
};
pub(crate) use slots::Slots;

/// The most events in one transaction.
const MOST_EVENTS: usize = 1024;

/// How many submissions may wait; past that the peer is overloaded.
const MOST_WAITING: usize = 4096;

/// How much of other peers' messages may wait in memory; past that the peer is overloaded.
const MOST_KIBIBYTES: u32 = 64 * 1024;

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
    /// What its handler is to handle, if it is not to execute.
    pub(crate) error: Option<Json>,
    /// Turns true when the task is called off.
    pub(crate) called_off: Option<watch::Receiver<bool>>,
}

impl From<Waiting> for Claimed {
    fn from(task: Waiting) -> Self {
        let Waiting {
            state,
            input,
            output,
        } = task;
        let error = (state.moment == Some(Moment::HandleError)).then_some(output);
        Self {
            state,
            input,
            error,
            called_off: None,
        }
    }
}

/// The way in.
#[derive(Clone)]
pub(crate) struct Commits {
    sender: mpsc::Sender<Command>,
    /// Kibibytes of foreign messages that may still come in.
    room: Arc<Semaphore>,
}

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
        self.sender
            .send(command)
            .await
            .map_err(|_| Error::Stopping)?;
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
        let _ = self.sender.send(command).await;
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
        tokio::spawn(vital("the committer", self.run(receiver)));
        Commits {
            sender,
            room: Arc::new(Semaphore::new(MOST_KIBIBYTES as usize)),
        }
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
        for task in owned {
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
        let mut events: Vec<Cow<'_, Event>> = batch
            .iter()
            .flat_map(|submission| &submission.events)
            .map(Cow::Borrowed)
            .collect();
        let mut answers: Vec<Option<Answer>> = vec![None; events.len()];
        let mut wanted = Wanted::default();
        for event in &events {
            engine::foresee(event, &mut wanted);
            if let Event::Send(tree) = &**event
                && let Some(root) = tree.first()
                && self.doubt.open
            {
                wanted.tasks.insert(root.state.id.clone());
            }
        }
        self.writer.begin().await?;
        loop {
            if !wanted.is_empty() {
                self.load(std::mem::take(&mut wanted), &mut world).await?;
            }
            for (event, answer) in events.iter_mut().zip(&mut answers) {
                while answer.is_none() {
                    let mut turn = Turn::new(&world);
                    match engine::step(&mut turn, event, now) {
                        Ok(given) => match self.run_statements(event, &given).await? {
                            // The completion did not come through; its failure takes its place.
                            Some(failure) => *event = Cow::Owned(failure),
                            None => {
                                world.apply(turn.finish(), &mut changes);
                                *answer = Some(given);
                            }
                        },
                        Err(missing) => {
                            wanted.add(missing);
                            break;
                        }
                    }
                }
            }
            if wanted.is_empty() {
                break;
            }
        }
        for event in &events {
            if let Event::Completed { queue, .. } = &**event {
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
        let lookup = Lookup {
            tasks: wanted.tasks.iter().collect(),
            inbox: wanted.inbox.iter().collect(),
            places: wanted.places.iter().collect(),
            families: wanted.families.iter().collect(),
        };
        let Loaded { mut tasks, inbox } = self.writer.load(&lookup).await?;
        let families = wanted.families.iter();
        let families: HashSet<_> = families
            .filter(|parent| !world.families.contains_key(*parent))
            .cloned()
            .collect();
        tasks.sort_by(|one, other| (one.order, &one.id).cmp(&(other.order, &other.id)));
        // A row may come for more than one reason.
        tasks.dedup_by(|one, other| one.id == other.id);
        for task in &tasks {
            let Some(parent) = &task.parent else { continue };
            if families.contains(parent) {
                let family = world.families.entry(parent.clone()).or_default();
                family.push(task.id.clone());
            }
            let place = (parent.clone(), task.order);
            if wanted.places.contains(&place) {
                world.places.insert(place, Some(task.id.clone()));
            }
        }
        // What was looked for and is not there is known to be missing.
        for parent in families {
            world.families.entry(parent).or_default();
        }
        for place in wanted.places {
            world.places.entry(place).or_insert(None);
        }
        for task in tasks {
            // What the batch has changed already is newer than the row.
            world.tasks.entry(task.id.clone()).or_insert(Some(task));
        }
        for id in wanted.tasks {
            world.tasks.entry(id).or_insert(None);
        }
        for (key, hash) in inbox {
            world.inbox.insert(key, Some(hash));
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
                    error: None,
                    called_off: None,
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
        for task in &mut fetched {
            engine::claim(&mut task.state, self.node, now);
        }
        let changed = fetched.iter().map(|task| (&task.state, None)).collect();
        self.writer
            .save(&Writes {
                changed,
                ..Writes::default()
            })
            .await?;
        claimed.extend(fetched.into_iter().map(Claimed::from));
        Ok(())
    }

    /// Gives each outgoing message its id and its final bytes.
    async fn freeze(&mut self, changes: &Changes, now: jiff::Timestamp) -> Result<Vec<OutboxRow>> {
        if changes.outgoing.is_empty() {
            return Ok(Vec::new());
        }
        let created = changes.created.iter();
        let created: HashMap<_, _> = created.map(|new| (&new.state.id, new)).collect();
        let stored = self.contents(changes, &created).await?;
        let mut rows = Vec::with_capacity(changes.outgoing.len());
        for message in &changes.outgoing {
            let peer = self.peers.get(&self.store, message.peer).await?;
            if message.needs_extensions && !peer.health.extensions {
                continue;
            }
            let id = MessageId::generate();
            let receiver = Receiver {
                url: &peer.url,
                extensions: peer.health.extensions,
            };
            let task = &message.task;
            let new = created.get(task).copied();
            let content = match new {
                Some(new) => Some((&new.input, new.info.as_deref(), new.pingback_at)),
                None => stored
                    .get(task)
                    .map(|row| (&row.input, row.info.as_deref(), row.pingback_at)),
            };
            let nothing = crate::model::null();
            let payload = match &message.data {
                Data::Nothing => Payload::Data(&nothing),
                Data::Input => match content {
                    Some((input, info, pingback_at)) => Payload::Task {
                        input,
                        info,
                        pingback_at,
                    },
                    None => return Err(Error::UnknownTask(task.clone())),
                },
                Data::Update { status, output } => Payload::Update {
                    status: *status,
                    output: output
                        .as_ref()
                        .or_else(|| changes.outputs.get(task))
                        .or_else(|| stored.get(task).map(|row| &row.output))
                        .unwrap_or(&nothing),
                },
            };
            rows.push(OutboxRow {
                seq: 0,
                peer: message.peer,
                body: freeze(message, &payload, &id, &self.url, &receiver)?.into(),
                message: id,
                queue: message.queue.clone(),
                action: message.action.clone(),
                task: task.clone(),
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

    /// Loads the payloads that messages need and this batch has not brought.
    async fn contents(
        &mut self,
        changes: &Changes,
        created: &HashMap<&TaskId, &NewTask>,
    ) -> Result<HashMap<TaskId, Content>> {
        let needed = changes
            .outgoing
            .iter()
            .filter(|message| match &message.data {
                Data::Nothing => false,
                Data::Input => !created.contains_key(&message.task),
                Data::Update { output, .. } => {
                    output.is_none()
                        && !changes.outputs.contains_key(&message.task)
                        && !created.contains_key(&message.task)
                }
            });
        let needed: Vec<_> = needed.map(|message| &message.task).collect();
        if needed.is_empty() {
            return Ok(HashMap::new());
        }
        Ok(self.writer.contents(&needed).await?.into_iter().collect())
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
        for id in &changes.called_off {
            self.signals.runs.call_off(id);
        }
        for task in claimed {
            self.hand_over(task);
        }
    }

    /// Gives a claimed task to the worker.
    fn hand_over(&mut self, mut task: Claimed) {
        let (id, epoch) = (&task.state.id, task.state.epoch);
        self.doubt.running.insert((id.clone(), epoch));
        task.called_off = Some(self.signals.runs.begin(id, epoch));
        // Without a worker the peer is stopping, and the lease is released with the rest.
        let _ = self.claimed.send(task);
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
            if watched && ended {
                match changes.outputs.get(id).cloned() {
                    Some(output) => {
                        let status = state.status;
                        self.signals.watchers.tell(id, &Ended { status, output });
                    }
                    // It keeps the output that it had.
                    None => self.signals.watchers.look(id),
                }
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
