//! What can happen to a task, and what the one who reports it is answered.

use std::sync::Arc;

use jiff::Timestamp;

use crate::model::{
    ActionOptions, Fingerprint, InboxRow, Json, NewTask, NodeId, OutboxRow, Status, TaskId,
    error::TaskError, statements::Transaction,
};

/// Something that happened.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// Our own code hands out a task.
    Send(Vec<NewTask>),
    /// A message came in; it is well-formed and its sender is known.
    Receive(Box<Received>),
    /// A handler's run ended.
    Completed {
        id: TaskId,
        /// Its queue, in which a slot is free now, whether the completion counts or not.
        queue: Arc<str>,
        epoch: i64,
        outcome: Result<Box<Done>, TaskError>,
        transaction: Transaction,
        options: ActionOptions,
    },
    /// A message of ours was answered, or given up.
    Delivery(Box<Delivery>),
    /// The process that ran a task is gone.
    Interrupted {
        id: TaskId,
        owner: NodeId,
        options: ActionOptions,
    },
    /// A task's expiration date has come.
    Expire(TaskId),
    /// A handler says how far it is.
    Progress {
        id: TaskId,
        epoch: i64,
        progress: Json,
    },
    /// The time of a round, or of a reservation, is over.
    Wake(TaskId),
    /// Our own code, or the operator, calls a task off.
    Cancel { id: TaskId, why: String },
    /// Somebody has decided on an external task.
    FinishExternal {
        id: TaskId,
        outcome: Result<Json, TaskError>,
    },
}

/// What a handler's run has brought.
#[derive(Clone, Debug)]
pub(crate) struct Done {
    pub(crate) output: Json,
    /// The output that its parent shall have from now on.
    pub(crate) parent_output: Option<Json>,
    /// The subtasks that it left, each before its own, each family in its order.
    pub(crate) children: Vec<NewTask>,
    /// The inputs that a director has changed.
    pub(crate) inputs: Vec<(TaskId, Json)>,
}

/// A message, with what it asks for.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) row: InboxRow,
    /// The certificate of the connection that it came by.
    pub(crate) certificate: Option<Fingerprint>,
    pub(crate) what: MessageKind,
}

/// What a message asks for.
#[derive(Clone, Debug)]
pub(crate) enum MessageKind {
    /// Run a task.
    Task(Box<NewTask>),
    /// Take note of how far a task of ours is.
    Update(Update),
    /// Stop working on a task.
    Cancel(TaskId),
    /// Reserve for a task.
    Synchronize(Box<NewTask>),
    /// Take note of a reservation.
    Confirm {
        task: TaskId,
        reservation: Json,
        seconds: Option<u64>,
        round: Option<i64>,
    },
    /// Take note that there is no reservation.
    Refuse { task: TaskId, round: Option<i64> },
    /// Give back what was reserved.
    Release { task: TaskId, round: Option<i64> },
    /// Start a task that has reserved, on this input.
    Execute { task: TaskId, input: Json },
}

/// The content of `frestq.update_task`.
#[derive(Clone, Debug)]
pub(crate) struct Update {
    pub(crate) task: TaskId,
    pub(crate) status: Status,
    pub(crate) output: Json,
    pub(crate) rev: Option<i64>,
}

/// How the delivery of one message went.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    pub(crate) message: Arc<OutboxRow>,
    pub(crate) verdict: DeliveryOutcome,
}

/// What became of an attempt.
#[derive(Clone, Debug)]
pub(crate) enum DeliveryOutcome {
    /// Acknowledged.
    Delivered,
    /// Refused for good, with the peer's words.
    Refused { status: u16, why: String },
    /// Not now: again later.
    Later {
        at: Timestamp,
        status: u16,
        why: String,
    },
    /// Given up: its time is over.
    GivenUp { why: String },
}

/// What the one who reported an event learns.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    /// It has its effect, now or because it had it before.
    Accepted,
    /// It has none and needs none.
    Ignored,
    /// An open task with the same unique key takes its place.
    Known(TaskId),
    /// It contradicts what was accepted before.
    Conflict(String),
    /// Nobody here knows that task, or it is none of the sender's business.
    UnknownTask,
}
