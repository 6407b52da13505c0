//! The rows that a batch of events works on, those it still lacks, and the changes to write.

use std::collections::{HashMap, HashSet};

use super::event::Delivery;
use crate::model::{InboxKey, InboxRow, Json, NewTask, Outgoing, Status, TaskId, TaskState};

/// A row that a step needs and that is not loaded.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum MissingRow {
    Task(TaskId),
    Inbox(InboxKey),
    /// The child at an index.
    Child(TaskId, i64),
    /// All children.
    Family(TaskId),
    /// The open task of a unique key.
    Key(Box<str>),
    /// The outputs of failed tasks.
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

/// The rows that are loaded, as the batch has changed them so far. `None` is a row that does not
/// exist.
#[derive(Debug, Default)]
pub(crate) struct BatchState {
    pub(crate) tasks: HashMap<TaskId, Option<TaskState>>,
    pub(crate) inbox: HashMap<InboxKey, Option<[u8; 16]>>,
    pub(crate) places: HashMap<(TaskId, i64), Option<TaskId>>,
    /// Children in their order.
    pub(crate) families: HashMap<TaskId, Vec<TaskId>>,
    /// The task that had a unique key when it was loaded, or got it since.
    pub(crate) keys: HashMap<Box<str>, Option<TaskId>>,
    /// Outputs of tasks that have failed. Few are ever read.
    pub(crate) outputs: HashMap<TaskId, Json>,
}

/// The changes of a batch of events, written in one transaction.
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
    /// Tasks that go on in the slot they hold.
    pub(crate) resumed: Vec<TaskId>,
    pub(crate) accepted: Vec<InboxRow>,
    pub(crate) outgoing: Vec<Outgoing>,
    pub(crate) deliveries: Vec<Delivery>,
    /// Tasks that were cancelled while their handler ran.
    pub(crate) cancelled_runs: Vec<TaskId>,
    /// The lines of the task log, in order, to write once they are true.
    pub(crate) log: Vec<(TaskId, Status, TaskEvent)>,
}

/// A line of the task log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TaskEvent {
    /// Created by our own code.
    Created,
    /// Received from another peer.
    Received,
    /// Its status changed.
    Changed,
    /// Another peer's update set it.
    Updated,
    /// A run failed or was interrupted, and another one follows.
    Again,
    /// What it has reserved could not be released.
    Kept,
    /// Something failed, and its handler decides what follows.
    Failing,
}

/// The changes of one event.
pub(crate) struct Outcome {
    pub(super) tasks: HashMap<TaskId, TaskState>,
    pub(super) families: HashMap<TaskId, Vec<TaskId>>,
    pub(super) changes: Changes,
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
        batch.cancelled_runs.append(&mut changes.cancelled_runs);
        batch.log.append(&mut changes.log);
    }
}
