//! One event's view of the batch's rows, and what it changes.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use super::{
    batch_state::{BatchState, Changes, MissingRow, Outcome, TaskEvent},
    event::Delivery,
};
use crate::model::{
    InboxKey, InboxRow, Json, NewTask, Outgoing, RoundMark, TaskId, TaskState, error::TaskError,
};

/// What one change entails elsewhere in its tree. `step` works them off one
/// by one, so that no tree is too deep, and each reads its task afresh.
#[derive(Debug)]
pub(super) enum Consequence {
    /// The task's turn has come.
    Activate(TaskId),
    /// The task has ended; its parent goes on.
    Ended(TaskId),
    /// The task has ended before its synchronized group has started.
    EndedEarly(TaskId),
    /// The task's tree ends without it.
    Cancel(TaskId),
    /// The task, which runs here, is to reserve for a round of its group.
    Reserve(TaskId, RoundMark),
    /// A local task has reserved for a group of this peer.
    Reserved(TaskId),
    /// A local task can't reserve for a group of this peer, or has lost its reservation.
    NotReserved(TaskId),
    /// The round is over, so the task, which runs here, releases what it has reserved.
    Release(TaskId),
    /// All of the group have reserved, so the task, which runs here, starts.
    Execute(TaskId),
}

/// One event's view: reads the batch's rows, keeps its own changes apart until they are complete.
pub(crate) struct StepContext<'b> {
    batch: &'b BatchState,
    tasks: HashMap<TaskId, TaskState>,
    families: HashMap<TaskId, Vec<TaskId>>,
    changes: Changes,
    consequences: VecDeque<Consequence>,
    /// How long a reservation stands.
    pub(super) reservation_timeout: Duration,
    /// A random number from 0 to 1. It separates groups that want the same slots.
    pub(super) chance: f64,
}

impl<'b> StepContext<'b> {
    pub(crate) fn new(batch: &'b BatchState) -> Self {
        Self {
            batch,
            tasks: HashMap::new(),
            families: HashMap::new(),
            changes: Changes::default(),
            consequences: VecDeque::new(),
            reservation_timeout: Duration::from_secs(60),
            chance: 0.5,
        }
    }

    /// Sets how long a reservation stands.
    pub(crate) fn reserving_for(mut self, timeout: Duration) -> Self {
        self.reservation_timeout = timeout;
        self
    }

    /// Sets the random number for waits.
    pub(crate) fn by_chance(mut self, chance: f64) -> Self {
        self.chance = chance;
        self
    }

    /// Queues a consequence behind the others.
    pub(super) fn entail(&mut self, consequence: Consequence) {
        self.consequences.push_back(consequence);
    }

    /// Queues a consequence before the others: nothing may come between it and what was just
    /// stored.
    pub(super) fn entail_next(&mut self, consequence: Consequence) {
        self.consequences.push_front(consequence);
    }

    /// Takes the consequence that is due.
    pub(super) fn next_consequence(&mut self) -> Option<Consequence> {
        self.consequences.pop_front()
    }

    /// The task, if there is one.
    pub(super) fn task(&self, id: &TaskId) -> Result<Option<&TaskState>, MissingRow> {
        if let Some(state) = self.tasks.get(id) {
            return Ok(Some(state));
        }
        match self.batch.tasks.get(id) {
            Some(state) => Ok(state.as_ref()),
            None => Err(MissingRow::Task(id.clone())),
        }
    }

    /// Whether the event has changed nothing so far.
    pub(super) fn is_idle(&self) -> bool {
        self.tasks.is_empty() && self.changes.outgoing.is_empty() && self.consequences.is_empty()
    }

    /// Whether the task was there before and its status is unchanged.
    pub(super) fn status_is_unchanged(&self, id: &TaskId) -> bool {
        let Some(Some(before)) = self.batch.tasks.get(id) else {
            return false;
        };
        let after = self.tasks.get(id);
        after.is_none_or(|after| after.status == before.status)
    }

    /// Whether the task is loaded and exists. A task that is not loaded may exist all the same.
    pub(super) fn is_known(&self, id: &TaskId) -> bool {
        matches!(self.task(id), Ok(Some(_)))
    }

    /// The hash of an accepted message, if it was accepted before.
    pub(super) fn inbox(&self, key: &InboxKey) -> Result<Option<[u8; 16]>, MissingRow> {
        let hash = self.batch.inbox.get(key).copied();
        hash.ok_or_else(|| MissingRow::Inbox(key.clone()))
    }

    /// The child of a task at an index, if it has that many.
    pub(super) fn child(&self, parent: &TaskId, order: i64) -> Result<Option<TaskId>, MissingRow> {
        let known = self.families.get(parent);
        if let Some(family) = known.or_else(|| self.batch.families.get(parent)) {
            let index = usize::try_from(order).unwrap_or(usize::MAX);
            return Ok(family.get(index).cloned());
        }
        let place = (parent.clone(), order);
        match self.batch.places.get(&place) {
            Some(child) => Ok(child.clone()),
            None => Err(MissingRow::Child(place.0, order)),
        }
    }

    /// All children of a task, in order.
    pub(super) fn children(&self, parent: &TaskId) -> Result<Vec<TaskId>, MissingRow> {
        let known = self.families.get(parent);
        match known.or_else(|| self.batch.families.get(parent)) {
            Some(family) => Ok(family.clone()),
            None => Err(MissingRow::Family(parent.clone())),
        }
    }

    /// The open task of a unique key.
    pub(super) fn holder(&self, key: &str) -> Result<Option<TaskId>, MissingRow> {
        match self.batch.keys.get(key) {
            None => Err(MissingRow::Key(key.into())),
            Some(None) => Ok(None),
            Some(Some(id)) => {
                let open = self
                    .task(id)?
                    .is_some_and(|task| !task.status.is_terminal());
                Ok(open.then(|| id.clone()))
            }
        }
    }

    /// Stores a new task. Children follow their parents, each family in its order.
    pub(super) fn create(&mut self, task: NewTask, note: TaskEvent) {
        // A row has both in one column.
        let state = TaskState {
            report_at: task.pingback_at,
            ..task.state.clone()
        };
        self.changes
            .log
            .push((state.id.clone(), state.status, note));
        self.families.entry(state.id.clone()).or_default();
        if let Some(parent) = &state.parent {
            let family = self.families.entry(parent.clone()).or_default();
            family.push(state.id.clone());
        }
        self.tasks.insert(state.id.clone(), state);
        self.changes.created.push(task);
    }

    /// Replaces a task's state; `output` is set with it, if given.
    pub(super) fn change(&mut self, state: TaskState, output: Option<Json>, note: TaskEvent) {
        self.changes
            .log
            .push((state.id.clone(), state.status, note));
        self.change_quietly(state, output);
    }

    /// Like [`change`](Self::change), without a line in the task log.
    pub(super) fn change_quietly(&mut self, state: TaskState, output: Option<Json>) {
        if let Some(output) = output {
            self.changes.outputs.insert(state.id.clone(), output);
        }
        self.changes.changed.insert(state.id.clone());
        self.tasks.insert(state.id.clone(), state);
    }

    /// Replaces a task's input.
    pub(super) fn set_input(&mut self, id: &TaskId, input: Json) {
        self.changes.inputs.insert(id.clone(), input);
    }

    /// Sets what a task has reserved.
    pub(super) fn set_reservation(&mut self, id: &TaskId, reservation: Json) {
        self.changes.reservations.insert(id.clone(), reservation);
    }

    /// Sets the progress of a task.
    pub(super) fn set_progress(&mut self, id: &TaskId, progress: Json) {
        self.changes.progress.insert(id.clone(), progress);
    }

    /// Lets a task go on in the slot that it holds.
    pub(super) fn resume(&mut self, id: TaskId) {
        self.changes.resumed.push(id);
    }

    pub(super) fn accept(&mut self, row: InboxRow) {
        self.changes.accepted.push(row);
    }

    pub(super) fn send(&mut self, message: Outgoing) {
        self.changes.outgoing.push(message);
    }

    pub(super) fn settle(&mut self, delivery: Delivery) {
        self.changes.deliveries.push(delivery);
    }

    /// What a task has failed with, in this event or before.
    pub(super) fn error_of(&self, id: &TaskId) -> Result<TaskError, MissingRow> {
        let output = self.output(id);
        let output = output.ok_or_else(|| MissingRow::Outputs(vec![id.clone()]))?;
        Ok(TaskError::from_output(output))
    }

    /// What tasks have failed with, in this event or before.
    pub(super) fn errors_of<'a>(
        &self,
        ids: impl Iterator<Item = &'a TaskId> + Clone,
    ) -> Result<Vec<TaskError>, MissingRow> {
        let missing: Vec<_> = ids
            .clone()
            .filter(|id| self.output(id).is_none())
            .cloned()
            .collect();
        if !missing.is_empty() {
            return Err(MissingRow::Outputs(missing));
        }
        ids.map(|id| self.error_of(id)).collect()
    }

    fn output(&self, id: &TaskId) -> Option<&Json> {
        let new = self.changes.outputs.get(id);
        new.or_else(|| self.batch.outputs.get(id))
    }

    /// Tells the running handler of a task that it was cancelled.
    pub(super) fn cancel_run(&mut self, id: TaskId) {
        self.changes.cancelled_runs.push(id);
    }

    /// The changes of this event.
    pub(crate) fn finish(self) -> Outcome {
        Outcome {
            tasks: self.tasks,
            families: self.families,
            changes: self.changes,
        }
    }
}
