//! What the writer loads: the rows that a transaction needs.

use jiff::Timestamp;

use crate::model::{InboxKey, Json, TaskId, TaskState};

/// A task that waits for a slot.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) state: TaskState,
    pub(crate) input: Json,
    /// Its output so far; the error, where its handler is to handle one.
    pub(crate) output: Json,
    pub(crate) reservation: Json,
}

/// What never changes of a task, and is needed when its turn comes to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    pub(crate) input: Json,
    pub(crate) info: Option<Box<str>>,
    pub(crate) pingback_at: Option<Timestamp>,
    pub(crate) output: Json,
    pub(crate) reservation: Json,
}

/// The rows to load.
#[derive(Debug, Default)]
pub(crate) struct Lookup<'a> {
    pub(crate) tasks: Vec<&'a TaskId>,
    pub(crate) inbox: Vec<&'a InboxKey>,
    /// Parents, with the place of the child.
    pub(crate) places: Vec<&'a (TaskId, i64)>,
    /// Parents, of which all children are wanted.
    pub(crate) families: Vec<&'a TaskId>,
    /// Unique keys, of which the open tasks are wanted.
    pub(crate) keys: Vec<&'a str>,
}

#[cfg(test)]
impl<'a> Lookup<'a> {
    pub(crate) fn new(tasks: &[&'a TaskId], inbox: &[&'a InboxKey]) -> Self {
        Self {
            tasks: tasks.to_vec(),
            inbox: inbox.to_vec(),
            ..Self::default()
        }
    }
}

/// The rows that were found.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    pub(crate) tasks: Vec<TaskState>,
    pub(crate) inbox: Vec<(InboxKey, [u8; 16])>,
    pub(crate) keys: Vec<(Box<str>, TaskId)>,
}
