//! What a transaction writes.

use jiff::Timestamp;

use crate::model::{InboxRow, Json, NewTask, OutboxRow, TaskId, TaskState, audit::Link, codes};

/// What one transaction writes. Tasks are given as they are at its end.
#[derive(Debug, Default)]
pub(crate) struct Writes<'a> {
    pub(crate) created: Vec<(&'a NewTask, &'a TaskState, Option<&'a Json>)>,
    pub(crate) changed: Vec<(&'a TaskState, Option<&'a Json>)>,
    pub(crate) accepted: &'a [InboxRow],
    pub(crate) outgoing: &'a [OutboxRow],
    pub(crate) settled: Vec<Settled<'a>>,
    pub(crate) payloads: Vec<NewPayload<'a>>,
    pub(crate) recorded: Option<Recorded<'a>>,
}

/// The next rows of a chain of the audit.
#[derive(Debug)]
pub(crate) struct Recorded<'a> {
    pub(crate) chain: &'a str,
    pub(crate) links: &'a [Link],
}

/// What changes of a task beside its state and output.
#[derive(Debug)]
pub(crate) struct NewPayload<'a> {
    pub(crate) task: &'a TaskId,
    pub(crate) input: Option<&'a Json>,
    pub(crate) reservation: Option<&'a Json>,
    pub(crate) progress: Option<&'a Json>,
}

/// How an outbox row ends, or goes on.
#[derive(Debug)]
pub(crate) struct Settled<'a> {
    pub(crate) seq: i64,
    pub(crate) state: OutboxState,
    /// The HTTP status of the answer, 0 if there was none.
    pub(crate) answer: u16,
    /// Set with `Pending`: when to try again.
    pub(crate) due_at: Option<Timestamp>,
    pub(crate) error: Option<&'a str>,
}

/// The state of an outbox row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OutboxState {
    Pending,
    Delivered,
    Failed,
}

codes!(OutboxState {
    Pending = 0,
    Delivered = 1,
    Failed = 2,
});
