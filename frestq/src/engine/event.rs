//! What can happen to a task, and the answers to those who report it.

use std::sync::Arc;

use jiff::Timestamp;

use crate::model::{
    ActionOptions, Fingerprint, InboxRow, Json, NewTask, NodeId, OutboxRow, Status, TaskId,
    error::TaskError, statements::Transaction,
};

/// Something that happened.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// Our own code creates a task.
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
    /// An outgoing message was answered or given up.
    Delivery(Box<Delivery>),
    /// The process that ran a task is gone.
    Interrupted {
        id: TaskId,
        owner: NodeId,
        options: ActionOptions,
    },
    /// A task's expiration date has come.
    Expire(TaskId),
    /// A handler reports progress.
    Progress {
        id: TaskId,
        epoch: i64,
        progress: Json,
    },
    /// The time of a round, or of a reservation, is over.
    Wake(TaskId),
    /// Our own code, or the operator, cancels a task.
    Cancel { id: TaskId, why: String },
    /// Somebody has decided on an external task.
    FinishExternal {
        id: TaskId,
        outcome: Result<Json, TaskError>,
    },
}

/// The result of a handler's run.
#[derive(Clone, Debug)]
pub(crate) struct Done {
    pub(crate) output: Json,
    /// The output that its parent has from now on.
    pub(crate) parent_output: Option<Json>,
    /// The subtasks that it added, parents before children, siblings in order.
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
    /// Record the status of a task that this peer has sent.
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
    /// Release what was reserved.
    Release { task: TaskId, round: Option<i64> },
    /// Start a task that has reserved, with this input.
    Execute { task: TaskId, input: Json },
}

/// What the receiver of a task reports.
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

/// The outcome of an attempt.
#[derive(Clone, Debug)]
pub(crate) enum DeliveryOutcome {
    /// Acknowledged.
    Delivered,
    /// Refused for good; `why` is the peer's.
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

/// The answer to an event.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    /// It takes effect now, or took effect before.
    Accepted,
    /// It has no effect and needs none.
    Ignored,
    /// An open task with the same unique key takes its place.
    Known(TaskId),
    /// It contradicts what was accepted before.
    Conflict(String),
    /// There is no such task, or the sender has no say about it.
    UnknownTask,
}

impl Answer {
    /// A peer gives us a task under the id of another one.
    pub(super) fn used_before(id: &TaskId) -> Self {
        Answer::Conflict(format!(
            "task_id {id} was used before; a new task needs a new id"
        ))
    }
}
