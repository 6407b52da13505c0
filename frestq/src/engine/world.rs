//! The rows that a batch of events works on, one event's view of them, and what is to be written.

use std::collections::{HashMap, HashSet};

use super::event::Delivery;
use crate::model::{InboxKey, InboxRow, Json, NewTask, Outgoing, Status, TaskId, TaskState};

/// A row that a step needs and nobody has loaded.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Missing {
    Task(TaskId),
    Inbox(InboxKey),
}

/// The rows to load before the steps that missed them run again.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) tasks: HashSet<TaskId>,
    pub(crate) inbox: HashSet<InboxKey>,
}

impl Wanted {
    pub(crate) fn add(&mut self, missing: Missing) {
        match missing {
            Missing::Task(id) => drop(self.tasks.insert(id)),
            Missing::Inbox(key) => drop(self.inbox.insert(key)),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tasks.is_empty() && self.inbox.is_empty()
    }
}

/// What is loaded, as the batch has changed it so far. `None`: looked for, not there.
#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) tasks: HashMap<TaskId, Option<TaskState>>,
    pub(crate) inbox: HashMap<InboxKey, Option<[u8; 16]>>,
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
    pub(crate) accepted: Vec<InboxRow>,
    pub(crate) outgoing: Vec<Outgoing>,
    pub(crate) deliveries: Vec<Delivery>,
    /// What happened, in order: the log tells it once it is true.
    pub(crate) story: Vec<(TaskId, Status, Note)>,
}

/// A line of a task's story.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Note {
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
}

/// One event's view: reads the world, keeps its own changes apart until they are complete.
pub(crate) struct Turn<'w> {
    world: &'w World,
    tasks: HashMap<TaskId, TaskState>,
    changes: Changes,
}

impl<'w> Turn<'w> {
    pub(crate) fn new(world: &'w World) -> Self {
        Self {
            world,
            tasks: HashMap::new(),
            changes: Changes::default(),
        }
    }

    /// The task, if there is one.
    pub(super) fn task(&self, id: &TaskId) -> Result<Option<&TaskState>, Missing> {
        if let Some(state) = self.tasks.get(id) {
            return Ok(Some(state));
        }
        match self.world.tasks.get(id) {
            Some(state) => Ok(state.as_ref()),
            None => Err(Missing::Task(id.clone())),
        }
    }

    /// Whether the task is known to be there already; not to be relied on for what is not loaded.
    pub(super) fn is_there(&self, id: &TaskId) -> bool {
        matches!(self.task(id), Ok(Some(_)))
    }

    /// The hash of an accepted message, if it was accepted before.
    pub(super) fn inbox(&self, key: &InboxKey) -> Result<Option<[u8; 16]>, Missing> {
        self.world
            .inbox
            .get(key)
            .copied()
            .ok_or_else(|| Missing::Inbox(key.clone()))
    }

    pub(super) fn create(&mut self, task: NewTask, note: Note) {
        let (id, status) = (task.state.id.clone(), task.state.status);
        self.changes.story.push((id, status, note));
        self.tasks.insert(task.state.id.clone(), task.state.clone());
        self.changes.created.push(task);
    }

    /// Replaces a task's state; `output` is set with it, if given.
    pub(super) fn change(&mut self, state: TaskState, output: Option<Json>, note: Note) {
        self.changes
            .story
            .push((state.id.clone(), state.status, note));
        if let Some(output) = output {
            self.changes.outputs.insert(state.id.clone(), output);
        }
        self.changes.changed.insert(state.id.clone());
        self.tasks.insert(state.id.clone(), state);
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

    /// What this event comes to.
    pub(crate) fn finish(self) -> (HashMap<TaskId, TaskState>, Changes) {
        (self.tasks, self.changes)
    }
}

impl World {
    /// Makes one event's changes visible to the next ones.
    pub(crate) fn apply(
        &mut self,
        tasks: HashMap<TaskId, TaskState>,
        mut changes: Changes,
        batch: &mut Changes,
    ) {
        for row in &changes.accepted {
            self.inbox.insert(row.key.clone(), Some(row.hash));
        }
        self.tasks
            .extend(tasks.into_iter().map(|(id, state)| (id, Some(state))));
        batch.created.append(&mut changes.created);
        batch.changed.extend(changes.changed);
        batch.outputs.extend(changes.outputs);
        batch.accepted.append(&mut changes.accepted);
        batch.outgoing.append(&mut changes.outgoing);
        batch.deliveries.append(&mut changes.deliveries);
        batch.story.append(&mut changes.story);
    }
}
