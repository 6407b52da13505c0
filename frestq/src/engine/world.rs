//! The rows that a batch of events works on, one event's view of them, and what is to be written.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::Duration,
};

use super::event::Delivery;
use crate::model::error::TaskError;
use crate::model::{InboxKey, InboxRow, Json, NewTask, Outgoing, Status, TaskId, TaskState};

/// A row that a step needs and nobody has loaded.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum MissingRow {
    Task(TaskId),
    Inbox(InboxKey),
    /// The child at a place.
    Child(TaskId, i64),
    /// All children.
    Family(TaskId),
    /// The open task of a unique key.
    Key(Box<str>),
    /// What tasks failed with.
    Outputs(Vec<TaskId>),
}

/// The rows to load before the steps that missed them run again.
#[derive(Debug, Default)]
pub(crate) struct RowRequests {
    pub(crate) tasks: HashSet<TaskId>,
    pub(crate) inbox: HashSet<InboxKey>,
    pub(crate) places: HashSet<(TaskId, i64)>,
    pub(crate) families: HashSet<TaskId>,
    pub(crate) keys: HashSet<Box<str>>,
    pub(crate) outputs: HashSet<TaskId>,
}

impl RowRequests {
    pub(crate) fn add(&mut self, missing: MissingRow) {
        match missing {
            MissingRow::Task(id) => drop(self.tasks.insert(id)),
            MissingRow::Inbox(key) => drop(self.inbox.insert(key)),
            MissingRow::Child(parent, order) => drop(self.places.insert((parent, order))),
            MissingRow::Family(parent) => drop(self.families.insert(parent)),
            MissingRow::Key(key) => drop(self.keys.insert(key)),
            MissingRow::Outputs(ids) => self.outputs.extend(ids),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
            && self.inbox.is_empty()
            && self.places.is_empty()
            && self.families.is_empty()
            && self.keys.is_empty()
            && self.outputs.is_empty()
    }
}

/// What is loaded, as the batch has changed it so far. `None`: looked for, not there.
#[derive(Debug, Default)]
pub(crate) struct BatchState {
    pub(crate) tasks: HashMap<TaskId, Option<TaskState>>,
    pub(crate) inbox: HashMap<InboxKey, Option<[u8; 16]>>,
    pub(crate) places: HashMap<(TaskId, i64), Option<TaskId>>,
    /// Children in their order.
    pub(crate) families: HashMap<TaskId, Vec<TaskId>>,
    /// Which task had a unique key when it was loaded, or got it since.
    pub(crate) keys: HashMap<Box<str>, Option<TaskId>>,
    /// Outputs of tasks that have not finished well. Few are ever asked for.
    pub(crate) outputs: HashMap<TaskId, Json>,
}

/// What a batch of events comes to: to be written in one transaction.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// New tasks. Their state is the one in `World`, since a later event may have changed it.
    pub(crate) created: Vec<NewTask>,
    /// Tasks that were there before and changed.
    pub(crate) changed: HashSet<TaskId>,
    /// Outputs that were set.
    pub(crate) outputs: HashMap<TaskId, Json>,
    /// Inputs that a director has changed.
    pub(crate) inputs: HashMap<TaskId, Json>,
    pub(crate) reservations: HashMap<TaskId, Json>,
    pub(crate) progress: HashMap<TaskId, Json>,
    /// Tasks that go on in the slot that they hold.
    pub(crate) resumed: Vec<TaskId>,
    pub(crate) accepted: Vec<InboxRow>,
    pub(crate) outgoing: Vec<Outgoing>,
    pub(crate) deliveries: Vec<Delivery>,
    /// Tasks that were called off while a handler ran.
    pub(crate) cancelled: Vec<TaskId>,
    /// What happened, in order: the log tells it once it is true.
    pub(crate) story: Vec<(TaskId, Status, TaskEvent)>,
}

/// A line of a task's story.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TaskEvent {
    /// Handed out by our own code.
    Created,
    /// Taken over from another peer.
    Received,
    /// Its status changed to what the world says.
    Changed,
    /// Another peer's update set it.
    Updated,
    /// A run failed or was cut off, and another one follows.
    Again,
    /// What it has reserved could not be given back.
    Kept,
    /// Something failed, and its handler is asked what becomes of that.
    Failing,
}

/// What one change entails for other tasks of its tree. Worked off one by one and not by recursion,
/// so that no tree is too deep.
#[derive(Debug)]
pub(super) enum Consequence {
    /// Its turn has come.
    Activate(TaskId),
    /// It has ended; its parent goes on.
    Ended(TaskId),
    /// Its tree ends without it.
    Cancel(TaskId),
    /// It has reserved, for a group of ours.
    Reserved(TaskId),
}

/// One event's view: reads the world, keeps its own changes apart until they are complete.
pub(crate) struct StepContext<'w> {
    world: &'w BatchState,
    tasks: HashMap<TaskId, TaskState>,
    families: HashMap<TaskId, Vec<TaskId>>,
    changes: Changes,
    pub(super) consequences: VecDeque<Consequence>,
    /// How long a reservation stands.
    pub(super) reservation_timeout: Duration,
    /// From 0 to 1, by which groups that want the same come apart.
    pub(super) chance: f64,
}

impl<'w> StepContext<'w> {
    pub(crate) fn new(world: &'w BatchState) -> Self {
        Self {
            world,
            tasks: HashMap::new(),
            families: HashMap::new(),
            changes: Changes::default(),
            consequences: VecDeque::new(),
            reservation_timeout: Duration::from_secs(60),
            chance: 0.5,
        }
    }

    /// The same, with reservations that stand so long.
    pub(crate) fn reserving_for(mut self, timeout: Duration) -> Self {
        self.reservation_timeout = timeout;
        self
    }

    /// The same, with that much chance in random waits.
    pub(crate) fn by_chance(mut self, chance: f64) -> Self {
        self.chance = chance;
        self
    }

    /// The task, if there is one.
    pub(super) fn task(&self, id: &TaskId) -> Result<Option<&TaskState>, MissingRow> {
        if let Some(state) = self.tasks.get(id) {
            return Ok(Some(state));
        }
        match self.world.tasks.get(id) {
            Some(state) => Ok(state.as_ref()),
            None => Err(MissingRow::Task(id.clone())),
        }
    }

    /// Whether nothing comes of the event so far.
    pub(super) fn is_idle(&self) -> bool {
        self.tasks.is_empty() && self.changes.outgoing.is_empty() && self.consequences.is_empty()
    }

    /// Whether the task, which was there before, has the status that it had.
    pub(super) fn stands_still(&self, id: &TaskId) -> bool {
        let Some(Some(before)) = self.world.tasks.get(id) else {
            return false;
        };
        let after = self.tasks.get(id);
        after.is_none_or(|after| after.status == before.status)
    }

    /// Whether the task is known to be there already; not to be relied on for what is not loaded.
    pub(super) fn is_there(&self, id: &TaskId) -> bool {
        matches!(self.task(id), Ok(Some(_)))
    }

    /// The hash of an accepted message, if it was accepted before.
    pub(super) fn inbox(&self, key: &InboxKey) -> Result<Option<[u8; 16]>, MissingRow> {
        let hash = self.world.inbox.get(key).copied();
        hash.ok_or_else(|| MissingRow::Inbox(key.clone()))
    }

    /// The child of a task at a place, if it has so many.
    pub(super) fn child(&self, parent: &TaskId, order: i64) -> Result<Option<TaskId>, MissingRow> {
        let known = self.families.get(parent);
        if let Some(family) = known.or_else(|| self.world.families.get(parent)) {
            let index = usize::try_from(order).unwrap_or(usize::MAX);
            return Ok(family.get(index).cloned());
        }
        let place = (parent.clone(), order);
        match self.world.places.get(&place) {
            Some(child) => Ok(child.clone()),
            None => Err(MissingRow::Child(place.0, order)),
        }
    }

    /// All children of a task, in order.
    pub(super) fn children(&self, parent: &TaskId) -> Result<Vec<TaskId>, MissingRow> {
        let known = self.families.get(parent);
        match known.or_else(|| self.world.families.get(parent)) {
            Some(family) => Ok(family.clone()),
            None => Err(MissingRow::Family(parent.clone())),
        }
    }

    /// The open task of a unique key.
    pub(super) fn keeper(&self, key: &str) -> Result<Option<TaskId>, MissingRow> {
        match self.world.keys.get(key) {
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
            .story
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
            .story
            .push((state.id.clone(), state.status, note));
        self.change_quietly(state, output);
    }

    /// Like [`change`](Self::change), for what is no part of the story.
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

    /// Sets how far a task is.
    pub(super) fn set_progress(&mut self, id: &TaskId, progress: Json) {
        self.changes.progress.insert(id.clone(), progress);
    }

    /// A task goes on in the slot that it holds.
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
        new.or_else(|| self.world.outputs.get(id))
    }

    /// A handler that runs learns that its task was called off.
    pub(super) fn cancel(&mut self, id: TaskId) {
        self.changes.cancelled.push(id);
    }

    /// What this event comes to.
    pub(crate) fn finish(self) -> Outcome {
        Outcome {
            tasks: self.tasks,
            families: self.families,
            changes: self.changes,
        }
    }
}

/// What one event comes to.
pub(crate) struct Outcome {
    tasks: HashMap<TaskId, TaskState>,
    families: HashMap<TaskId, Vec<TaskId>>,
    changes: Changes,
}

impl BatchState {
    /// Makes one event's changes visible to the next ones.
    pub(crate) fn apply(&mut self, outcome: Outcome, batch: &mut Changes) {
        let Outcome {
            tasks,
            families,
            mut changes,
        } = outcome;
        for new in &changes.created {
            if let Some(key) = &new.unique_key {
                self.keys.insert(key.clone(), Some(new.state.id.clone()));
            }
        }
        for row in &changes.accepted {
            self.inbox.insert(row.key.clone(), Some(row.hash));
        }
        for (id, output) in &changes.outputs {
            if tasks
                .get(id)
                .is_some_and(|task| task.status != Status::Finished)
            {
                self.outputs.insert(id.clone(), output.clone());
            }
        }
        self.families.extend(families);
        let tasks = tasks.into_iter();
        self.tasks
            .extend(tasks.map(|(id, state)| (id, Some(state))));
        batch.created.append(&mut changes.created);
        batch.changed.extend(changes.changed);
        batch.outputs.extend(changes.outputs);
        batch.inputs.extend(changes.inputs);
        batch.reservations.extend(changes.reservations);
        batch.progress.extend(changes.progress);
        batch.resumed.append(&mut changes.resumed);
        batch.accepted.append(&mut changes.accepted);
        batch.outgoing.append(&mut changes.outgoing);
        batch.deliveries.append(&mut changes.deliveries);
        batch.cancelled.append(&mut changes.cancelled);
        batch.story.append(&mut changes.story);
    }
}
