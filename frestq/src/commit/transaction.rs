//! One transaction of the committer: load, decide, claim, write.

use std::{
    borrow::Cow,
    cmp::Reverse,
    collections::{HashMap, HashSet},
};

use jiff::Timestamp;

use super::{
    audit::recorded,
    claimed::ClaimedTask,
    committer::{Committer, Done},
    queue::Submission,
    slots::Slots,
};
use crate::{
    engine::{
        self, Answer, BatchState, Changes, DeliveryOutcome, Event, MissingRow, RowRequests,
        StepContext,
    },
    model::{
        InboxKey, Json, MessageId, OutboxRow, TaskId, TaskState,
        error::{DatabaseError, Error, Result, TaskError},
        null,
    },
    store::{Loaded, Lookup, NewPayload, OutboxState, Ran, Settled, Writes},
};

/// A batch that is being decided: its events and their effects so far.
struct Decided<'a> {
    /// A completion whose statements failed is replaced by its failure.
    events: Vec<Cow<'a, Event>>,
    answers: Vec<Option<Answer>>,
    state: BatchState,
    changes: Changes,
    /// The messages whose inbox rows were read.
    looked_up: HashSet<InboxKey>,
}

impl<'a> Decided<'a> {
    fn new(batch: &'a [Submission]) -> Self {
        let events = batch.iter().flat_map(|submission| &submission.events);
        let events: Vec<_> = events.map(Cow::Borrowed).collect();
        Self {
            answers: vec![None; events.len()],
            events,
            state: BatchState::default(),
            changes: Changes::default(),
            looked_up: HashSet::new(),
        }
    }
}

impl Committer {
    /// Decides a batch, claims tasks, and commits everything.
    pub(super) async fn transaction(
        &mut self,
        batch: &[Submission],
        expect_new: bool,
    ) -> Result<Done> {
        let now = self.clock.now();
        self.writer.begin().await?;
        let decided = self.decide(batch, expect_new, now).await?;
        let mut slots = self.slots.clone();
        self.settle_slots(&decided, &mut slots);
        let Decided {
            answers,
            mut state,
            changes,
            ..
        } = decided;
        let resumed = self.resume(&mut slots, &mut state, &changes, now).await?;
        let mut claimed = self.claim_new(&mut slots, &mut state, &changes, now);
        claimed.extend(resumed);
        let mut outbox = self.freeze(&changes, now).await?;
        let links = self.links(batch, &answers, &changes).await?;
        let mut writes = writes(&state, &changes, &outbox);
        writes.recorded = recorded(self.audit.as_ref(), &links);
        self.writer.save(&writes).await?;
        drop(writes);
        self.claim_waiting(&mut slots, &mut claimed, now).await?;
        let committed = self.writer.commit().await;
        // After a unique violation the transaction is certainly not committed.
        let is_uncertain = |error| !crate::store::was_there(error);
        self.uncertain.pending |= committed.as_ref().is_err_and(is_uncertain);
        let places: HashMap<MessageId, i64> = committed?.into_iter().collect();
        self.advance(&links);
        for row in &mut outbox {
            row.seq = places.get(&row.message).copied().unwrap_or_default();
        }
        Ok(Done {
            // `decide` ends only when every event has its answer.
            answers: answers.into_iter().flatten().collect(),
            batch_state: state,
            changes,
            outbox,
            claimed,
            slots,
        })
    }

    /// Lets the engine decide each event, and loads the rows that are missing, until all are
    /// decided.
    async fn decide<'a>(
        &mut self,
        batch: &'a [Submission],
        expect_new: bool,
        now: Timestamp,
    ) -> Result<Decided<'a>> {
        let mut decided = Decided::new(batch);
        let mut requests = self.prefetch(&mut decided, expect_new);
        loop {
            let seeded = self.task_cache.seed(&mut requests, &mut decided.state);
            if cfg!(debug_assertions) {
                self.assert_cached_tasks_match(&seeded, &decided.state)
                    .await?;
            }
            if !requests.is_empty() {
                let missing = std::mem::take(&mut requests);
                self.load(missing, &mut decided.state).await?;
            }
            for index in 0..decided.events.len() {
                self.decide_one(&mut decided, index, expect_new, now, &mut requests)
                    .await?;
            }
            if requests.is_empty() {
                return Ok(decided);
            }
        }
    }

    /// The rows that the events certainly need.
    fn prefetch(&mut self, decided: &mut Decided<'_>, expect_new: bool) -> RowRequests {
        let mut requests = RowRequests::default();
        for event in &decided.events {
            if expect_new {
                self.task_cache.assume_new(event, &mut decided.state);
            }
            engine::prefetch(event, &mut requests);
            if let Event::Send(tree) = &**event
                && let Some(root) = tree.first()
                && self.uncertain.pending
            {
                requests.tasks.insert(root.state.id.clone());
            }
        }
        requests
    }

    /// Decides one event. If a row is missing, requests it instead.
    async fn decide_one(
        &mut self,
        decided: &mut Decided<'_>,
        index: usize,
        expect_new: bool,
        now: Timestamp,
        requests: &mut RowRequests,
    ) -> Result<()> {
        while decided.answers[index].is_none() {
            let event = &decided.events[index];
            let mut context = StepContext::new(&decided.state)
                .reserving_for(self.reservation_timeout)
                .by_chance(fastrand::f64());
            let given = engine::step(&mut context, event, now);
            if expect_new
                && let (Ok(given), Event::Receive(received)) = (&given, &**event)
                && *given != Answer::Accepted
                && decided.looked_up.insert(received.row.key.clone())
            {
                // A rejected message is not stored, so no unique violation would show that it is
                // a repetition. Its inbox row has to be read.
                decided.state.inbox.remove(&received.row.key);
                requests.add(MissingRow::Inbox(received.row.key.clone()));
                return Ok(());
            }
            match given {
                Ok(given) => match self.run_statements(event, &given).await? {
                    // The completion's statements failed; its failure takes its place.
                    Some(failure) => decided.events[index] = Cow::Owned(failure),
                    None => {
                        let outcome = context.finish();
                        decided.state.apply(outcome, &mut decided.changes);
                        decided.answers[index] = Some(given);
                    }
                },
                Err(missing) => {
                    requests.add(missing);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Frees the slots of runs that have ended, unless the task keeps its slot.
    fn settle_slots(&self, decided: &Decided<'_>, slots: &mut Slots) {
        for (event, answer) in decided.events.iter().zip(&decided.answers) {
            let Event::Completed {
                id, queue, epoch, ..
            } = &**event
            else {
                continue;
            };
            let state = decided.state.tasks.get(id).and_then(Option::as_ref);
            let accepted = *answer == Some(Answer::Accepted);
            let holds = state.is_some_and(|task| {
                // The completion is submitted again after an uncertain commit.
                let again = task.moment.is_none() && task.epoch == *epoch;
                task.owner == Some(self.node) && (accepted || again)
            });
            if holds {
                slots.hold(id.clone(), queue);
            } else {
                slots.free(queue);
            }
        }
    }

    /// Asserts that the tasks taken from the cache equal their rows.
    async fn assert_cached_tasks_match(
        &self,
        seeded: &[TaskId],
        batch_state: &BatchState,
    ) -> Result<()> {
        if seeded.is_empty() {
            return Ok(());
        }
        // Reads by another connection: the writer's transaction has written nothing yet.
        for row in self.store.states(seeded).await? {
            let known = batch_state.tasks.get(&row.id).cloned().flatten();
            // Rows keep microseconds.
            let stored = |at: Option<Timestamp>| {
                at.and_then(|at| Timestamp::from_microsecond(at.as_microsecond()).ok())
            };
            let known = known.map(|task| TaskState {
                seq: row.seq,
                wake_at: stored(task.wake_at),
                report_at: stored(task.report_at),
                run_at: stored(task.run_at),
                expires_at: stored(task.expires_at),
                modified_at: row.modified_at,
                ..task
            });
            assert_eq!(known, Some(row), "a task in memory is not the stored one");
        }
        Ok(())
    }

    /// Runs the statements of a handler whose completion counts; if one fails, gives the
    /// completion that takes its place.
    async fn run_statements(&mut self, event: &Event, answer: &Answer) -> Result<Option<Event>> {
        let Event::Completed {
            outcome: Ok(_),
            transaction,
            id,
            epoch,
            ..
        } = event
        else {
            return Ok(None);
        };
        if transaction.statements.is_empty() || *answer != Answer::Accepted {
            return Ok(None);
        }
        let run = (id.clone(), *epoch);
        let failed = match (transaction.meddling(), self.undone.get(&run)) {
            (Some(sql), _) => {
                tracing::error!(task = %id, "a handler can't begin or end transactions: {sql}");
                Some("a handler can't begin or end transactions".to_owned())
            }
            (None, Some(why)) => Some(why.public().to_owned()),
            (None, None) => {
                let longest = self.transaction_timeout;
                let why = match self.writer.run(transaction, longest).await? {
                    Ran::Done => return Ok(None),
                    Ran::Failed(why) => why,
                    Ran::Undone(why) => {
                        self.undone.insert(run, why.clone());
                        return Err(Error::Database(DatabaseError::new(why.to_string())));
                    }
                };
                tracing::error!(task = %id, "a statement of a handler failed: {why}");
                Some(why.public().to_owned())
            }
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

    async fn load(&mut self, requests: RowRequests, batch_state: &mut BatchState) -> Result<()> {
        let lookup = Lookup {
            tasks: requests.tasks.iter().collect(),
            inbox: requests.inbox.iter().collect(),
            places: requests.places.iter().collect(),
            families: requests.families.iter().collect(),
            keys: requests.keys.iter().map(|key| &**key).collect(),
        };
        let Loaded {
            mut tasks,
            inbox,
            keys,
        } = self.writer.load(&lookup).await?;
        let families = requests.families.iter();
        let families: HashSet<_> = families
            .filter(|parent| !batch_state.families.contains_key(*parent))
            .cloned()
            .collect();
        if !requests.outputs.is_empty() {
            let ids: Vec<_> = requests.outputs.iter().collect();
            for (id, content) in self.writer.contents(&ids).await? {
                batch_state.outputs.entry(id).or_insert(content.output);
            }
        }
        for id in requests.outputs {
            batch_state.outputs.entry(id).or_insert_with(null);
        }
        tasks.sort_by(|one, other| (one.order, &one.id).cmp(&(other.order, &other.id)));
        // A row may be loaded for more than one reason.
        tasks.dedup_by(|one, other| one.id == other.id);
        for task in &tasks {
            let Some(parent) = &task.parent else { continue };
            if families.contains(parent) {
                let family = batch_state.families.entry(parent.clone()).or_default();
                family.push(task.id.clone());
            }
            let place = (parent.clone(), task.order);
            if requests.places.contains(&place) {
                batch_state.places.insert(place, Some(task.id.clone()));
            }
        }
        // Requested rows that don't exist are known to be missing.
        for parent in families {
            batch_state.families.entry(parent).or_default();
        }
        for place in requests.places {
            batch_state.places.entry(place).or_insert(None);
        }
        for task in tasks {
            // The state that the batch has changed is newer than the row.
            batch_state
                .tasks
                .entry(task.id.clone())
                .or_insert(Some(task));
        }
        for id in requests.tasks {
            batch_state.tasks.entry(id).or_insert(None);
        }
        for (key, id) in keys {
            batch_state.keys.entry(key).or_insert(Some(id));
        }
        for key in requests.keys {
            batch_state.keys.entry(key).or_insert(None);
        }
        for (key, hash) in inbox {
            batch_state.inbox.insert(key, Some(hash));
        }
        for key in requests.inbox {
            batch_state.inbox.entry(key).or_insert(None);
        }
        Ok(())
    }

    /// Starts the next run of tasks that hold a slot, and frees slots that tasks have released.
    async fn resume(
        &mut self,
        slots: &mut Slots,
        batch_state: &mut BatchState,
        changes: &Changes,
        now: jiff::Timestamp,
    ) -> Result<Vec<ClaimedTask>> {
        let resumed: HashSet<_> = changes.resumed.iter().collect();
        let mut resuming = Vec::new();
        for id in resumed {
            let Some(Some(state)) = batch_state.tasks.get_mut(id) else {
                continue;
            };
            let goes_on = state.owner == Some(self.node) && slots.holds(id) && !slots.stopped();
            if goes_on && state.moment.is_some() {
                slots.forget(id);
                engine::claim(state, self.node, now);
                resuming.push(state.clone());
            } else if state.moment.is_some() {
                // Another process owns the slot and will find the task by itself; or this process
                // starts no more runs.
                state.owner = None;
            }
        }
        for id in &changes.changed {
            if slots.holds(id)
                && let Some(Some(state)) = batch_state.tasks.get(id)
                && state.owner != Some(self.node)
            {
                slots.forget(id);
                slots.free(&state.queue);
            }
        }
        if resuming.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<_> = resuming.iter().map(|state| &state.id).collect();
        let mut contents: HashMap<_, _> = self.writer.contents(&ids).await?.into_iter().collect();
        let claimed = resuming.into_iter().filter_map(|state| {
            let content = contents.remove(&state.id)?;
            let changed = |of: &HashMap<TaskId, Json>| of.get(&state.id).cloned();
            Some(ClaimedTask {
                input: changed(&changes.inputs).unwrap_or(content.input),
                reservation: changed(&changes.reservations).unwrap_or(content.reservation),
                error: None,
                cancelled: None,
                state,
            })
        });
        Ok(claimed.collect())
    }

    /// A new task whose queue has a free slot and no waiting tasks starts in the transaction that
    /// stores it.
    fn claim_new(
        &self,
        slots: &mut Slots,
        batch_state: &mut BatchState,
        changes: &Changes,
        now: jiff::Timestamp,
    ) -> Vec<ClaimedTask> {
        let mut claimed = Vec::new();
        let mut new_tasks: Vec<_> = changes.created.iter().collect();
        new_tasks.sort_by_key(|new| Reverse(new.priority));
        for new in new_tasks {
            let Some(Some(state)) = batch_state.tasks.get_mut(&new.state.id) else {
                continue;
            };
            if !engine::runs_now(state, now) {
                continue;
            }
            if slots.take_for_new(&state.queue) {
                engine::claim(state, self.node, now);
                claimed.push(ClaimedTask {
                    state: state.clone(),
                    input: new.input.clone(),
                    error: None,
                    reservation: null(),
                    cancelled: None,
                });
            }
        }
        // A task whose run failed or was interrupted queues up behind the others.
        for id in &changes.changed {
            if let Some(Some(state)) = batch_state.tasks.get(id)
                && engine::runs_now(state, now)
            {
                slots.mark_waiting(&state.queue);
            }
        }
        claimed
    }

    /// Gives the remaining slots to tasks that wait in the database.
    async fn claim_waiting(
        &mut self,
        slots: &mut Slots,
        claimed: &mut Vec<ClaimedTask>,
        now: jiff::Timestamp,
    ) -> Result<()> {
        let mut fetched = Vec::new();
        for (queue, free) in slots.claimable() {
            let limit = i64::try_from(free).unwrap_or(i64::MAX);
            let rows = self.writer.waiting(&queue, limit, now).await?;
            slots.claimed(&queue, rows.len());
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
        claimed.extend(fetched.into_iter().map(ClaimedTask::from));
        Ok(())
    }
}

/// The inputs, reservations and progress that were replaced.
fn payloads(changes: &Changes) -> Vec<NewPayload<'_>> {
    let (inputs, reservations) = (&changes.inputs, &changes.reservations);
    let changed = inputs.keys().chain(reservations.keys());
    let tasks: HashSet<_> = changed.chain(changes.progress.keys()).collect();
    let payload = |task| NewPayload {
        task,
        input: inputs.get(task),
        reservation: reservations.get(task),
        progress: changes.progress.get(task),
    };
    tasks.into_iter().map(payload).collect()
}

/// The rows as they are at the end of the batch.
fn writes<'a>(
    batch_state: &'a BatchState,
    changes: &'a Changes,
    outgoing: &'a [OutboxRow],
) -> Writes<'a> {
    let state = |id| batch_state.tasks.get(id).and_then(Option::as_ref);
    let created: HashSet<_> = changes.created.iter().map(|new| &new.state.id).collect();
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
            .filter(|id| !created.contains(id))
            .filter_map(|id| Some((state(id)?, changes.outputs.get(id))))
            .collect(),
        payloads: payloads(changes),
        recorded: None,
        accepted: &changes.accepted,
        outgoing,
        settled: changes
            .deliveries
            .iter()
            .map(|delivery| {
                let (state, answer, due_at, error) = match &delivery.verdict {
                    DeliveryOutcome::Delivered => (OutboxState::Delivered, 200, None, None),
                    DeliveryOutcome::Refused { status, why } => {
                        (OutboxState::Failed, *status, None, Some(why.as_str()))
                    }
                    DeliveryOutcome::Later { at, status, why } => {
                        (OutboxState::Pending, *status, Some(*at), Some(why.as_str()))
                    }
                    DeliveryOutcome::GivenUp { why } => {
                        (OutboxState::Failed, 0, None, Some(why.as_str()))
                    }
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
