//! The rows of a task: the small part that decisions need, what a new one carries, and all of it.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::{Error, Result};
use super::{Fingerprint, Json, NodeId, PeerId, PeerUrl, Status, TaskId, TaskKind};

/// Which side of a task this peer is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Handed to another peer by us.
    Sent,
    /// Handed to us by another peer.
    Received,
    /// Ours alone.
    Local,
}

impl Role {
    pub(crate) const fn code(self) -> i64 {
        match self {
            Role::Sent => 0,
            Role::Received => 1,
            Role::Local => 2,
        }
    }

    pub(crate) const fn from_code(code: i64) -> Option<Self> {
        match code {
            0 => Some(Role::Sent),
            1 => Some(Role::Received),
            2 => Some(Role::Local),
            _ => None,
        }
    }
}

/// What a task's handler is wanted for. The task waits for a slot while it has a moment and no owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RunPhase {
    /// To do the work.
    Execute,
    /// To say what becomes of an error: its own, or that of a child.
    HandleError,
    /// To reserve what it needs for its part in a synchronized group.
    Reserve,
    /// To give back what it has reserved.
    CancelReservation,
    /// To direct its group, of which all have reserved: the last look before all start.
    PreExecute,
    /// To direct its group after a round in which not all could reserve.
    EndRound,
}

impl RunPhase {
    /// 0 stands for none.
    pub(crate) const fn code(moment: Option<Self>) -> i64 {
        match moment {
            None => 0,
            Some(RunPhase::Execute) => 1,
            Some(RunPhase::HandleError) => 2,
            Some(RunPhase::Reserve) => 3,
            Some(RunPhase::CancelReservation) => 4,
            Some(RunPhase::PreExecute) => 5,
            Some(RunPhase::EndRound) => 6,
        }
    }

    pub(crate) const fn from_code(code: i64) -> Option<Option<Self>> {
        match code {
            0 => Some(None),
            1 => Some(Some(RunPhase::Execute)),
            2 => Some(Some(RunPhase::HandleError)),
            3 => Some(Some(RunPhase::Reserve)),
            4 => Some(Some(RunPhase::CancelReservation)),
            5 => Some(Some(RunPhase::PreExecute)),
            6 => Some(Some(RunPhase::EndRound)),
            _ => None,
        }
    }
}

/// What a failing child means for a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum OnFailure {
    /// Its end, at once; the other children are called off.
    #[default]
    End,
    /// Its end, together with all the other children.
    WaitForAll,
    /// Its handler says.
    AskHandler,
}

impl OnFailure {
    pub(crate) const fn code(self) -> i64 {
        match self {
            OnFailure::End => 0,
            OnFailure::WaitForAll => 1,
            OnFailure::AskHandler => 2,
        }
    }

    pub(crate) const fn from_code(code: i64) -> Option<Self> {
        match code {
            0 => Some(OnFailure::End),
            1 => Some(OnFailure::WaitForAll),
            2 => Some(OnFailure::AskHandler),
            _ => None,
        }
    }
}

/// What the engine reads and changes: everything but the payloads.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TaskState {
    /// The row's number; 0 before it is stored.
    pub(crate) seq: i64,
    pub(crate) id: TaskId,
    pub(crate) kind: TaskKind,
    pub(crate) role: Role,
    /// The peer at the other end; ourselves for a local task.
    pub(crate) peer: PeerId,
    /// Of a sent task, the certificate that its receiver must show; of a received one, that with which it
    /// came.
    pub(crate) certificate: Option<Fingerprint>,
    pub(crate) queue: Arc<str>,
    pub(crate) action: Arc<str>,
    pub(crate) status: Status,
    /// The task of whose tree it is a part.
    pub(crate) parent: Option<TaskId>,
    /// Its place among its siblings, from 0, without gaps.
    pub(crate) order: i64,
    /// Of a sequence: the place of the child whose turn it is.
    pub(crate) place: i64,
    /// How many of its children have not ended.
    pub(crate) open_children: i64,
    /// What a failing child means for it.
    pub(crate) on_failure: OnFailure,
    /// Its action may run at most once, as a process that had the handler knew.
    pub(crate) at_most_once: bool,
    /// What its handler is wanted for, or runs for.
    pub(crate) moment: Option<RunPhase>,
    /// How often a handler run was started.
    pub(crate) attempt: i64,
    /// How many of those ended in an `Err` that the action's `retries` forgave.
    pub(crate) failures: i64,
    /// How many runs in a row were cut off.
    pub(crate) interrupted: i64,
    /// The claim's fencing number: a completion under an older one is ignored.
    pub(crate) epoch: i64,
    /// The process that runs it now.
    pub(crate) owner: Option<NodeId>,
    /// The newest update: sent, where we run the task; applied, where we sent it.
    pub(crate) rev: i64,
    /// The round that a synchronized group is in; of one of its tasks, that of its reservation.
    pub(crate) round: i64,
    /// Of a synchronized group: how many have reserved in this round; -1 between rounds. Of one of its
    /// tasks: 1 while it has reserved something, until its run has ended or it has given it back.
    pub(crate) reserved: i64,
    /// When a round of the group, or the reservation of the task, is over.
    pub(crate) wake_at: Option<Timestamp>,
    /// When its sender wants a report.
    pub(crate) report_at: Option<Timestamp>,
    /// Not to be started earlier.
    pub(crate) run_at: Option<Timestamp>,
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) modified_at: Timestamp,
}

impl TaskState {
    /// A task of our own that nobody has touched yet.
    pub(crate) fn new(now: Timestamp) -> Self {
        Self {
            seq: 0,
            id: TaskId::generate(),
            kind: TaskKind::Sequential,
            role: Role::Local,
            peer: PeerId::SELF,
            certificate: None,
            queue: "".into(),
            action: "".into(),
            status: Status::Created,
            parent: None,
            order: 0,
            place: 0,
            open_children: 0,
            on_failure: OnFailure::End,
            at_most_once: false,
            moment: None,
            attempt: 0,
            failures: 0,
            interrupted: 0,
            epoch: 0,
            owner: None,
            rev: 0,
            round: 0,
            reserved: 0,
            wake_at: None,
            report_at: None,
            run_at: None,
            expires_at: None,
            modified_at: now,
        }
    }
}

impl TaskState {
    /// The certificate without which its receiver neither gets a message about it nor may send one.
    pub(crate) fn pin(&self) -> Option<Fingerprint> {
        self.certificate.filter(|_| self.role == Role::Sent)
    }
}

/// A task to store, with what never changes afterwards.
#[derive(Clone, Debug)]
pub(crate) struct NewTask {
    pub(crate) state: TaskState,
    pub(crate) input: Json,
    pub(crate) label: Option<Box<str>>,
    pub(crate) info: Option<Box<str>>,
    pub(crate) pingback_at: Option<Timestamp>,
    /// The higher, the sooner it gets a slot of its queue.
    pub(crate) priority: i64,
    /// While it is open, no other task has the same.
    pub(crate) unique_key: Option<Box<str>>,
    pub(crate) created_at: Timestamp,
}

/// A task as listings and `--show-task` give it, with the original's field names.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
#[allow(
    missing_docs,
    reason = "the names are the documentation: the original's columns"
)]
pub struct TaskRecord {
    pub id: TaskId,
    pub task_type: TaskKind,
    pub action: String,
    pub queue_name: String,
    pub status: Status,
    pub label: Option<String>,
    pub order: Option<i64>,
    pub parent_id: Option<TaskId>,
    pub sender_url: PeerUrl,
    pub receiver_url: PeerUrl,
    pub sender_ssl_cert: Option<String>,
    pub receiver_ssl_cert: Option<String>,
    pub is_received: bool,
    pub is_local: bool,
    pub created_date: Timestamp,
    pub last_modified_date: Timestamp,
    pub input_data: Json,
    pub output_data: Json,
    pub reservation_data: Json,
    pub progress: Json,
    pub pingback_date: Option<Timestamp>,
    pub expiration_date: Option<Timestamp>,
    pub info: Option<String>,
    pub attempt: i64,
    pub failures: i64,
    pub run_date: Option<Timestamp>,
    /// Since when nothing is left of the task but that it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pruned_date: Option<Timestamp>,
}

impl TaskRecord {
    /// The record, unless it is what pruning has left of it.
    pub(crate) fn unless_pruned(self) -> Result<Self> {
        match self.pruned_date {
            Some(at) => Err(Error::Pruned { id: self.id, at }),
            None => Ok(self),
        }
    }
}
