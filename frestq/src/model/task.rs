//! The rows of a task: the small part that decisions need, what a new one carries, and all of it.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::{Error, Result};
use super::{Fingerprint, Json, NodeId, PeerId, PeerUrl, Status, TaskId, TaskKind, codes::codes};

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

codes!(Role {
    Sent = 0,
    Received = 1,
    Local = 2,
});

/// What a task's handler is wanted for. The task waits for a slot while it has a moment and no
/// owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RunPhase {
    /// To do the work.
    Execute,
    /// To decide about an error: its own, or that of a child.
    HandleError,
    /// To reserve what it needs for its part in a synchronized group.
    Reserve,
    /// To release what it has reserved.
    CancelReservation,
    /// To direct its group, of which all have reserved, before all start.
    PreExecute,
    /// To direct its group after a round in which not all could reserve.
    EndRound,
}

codes!(RunPhase {
    Execute = 1,
    HandleError = 2,
    Reserve = 3,
    CancelReservation = 4,
    PreExecute = 5,
    EndRound = 6,
});

impl RunPhase {
    /// The code of no moment at all.
    pub(crate) const NONE: i64 = 0;
}

/// What a failing child means for a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum OnFailure {
    /// It ends at once, and its other children are cancelled.
    #[default]
    End,
    /// It fails once all children have ended.
    WaitForAll,
    /// Its handler decides.
    AskHandler,
}

codes!(OnFailure {
    End = 0,
    WaitForAll = 1,
    AskHandler = 2,
});

/// The round of a synchronized group in which a task has reserved, or is asked to.
///
/// Rounds count from 1, and [`None`](Self::None) comes before the first one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RoundMark {
    /// No round: the group has not begun, the task has not reserved, or its director is an
    /// original peer, which knows no rounds.
    #[default]
    None,
    /// The round of this number.
    Round(i64),
    /// Whichever round is on: an original participant, which knows no rounds, has confirmed.
    EveryRound,
}

impl RoundMark {
    /// The column `round`.
    pub(crate) const fn code(self) -> i64 {
        match self {
            RoundMark::None => 0,
            RoundMark::Round(number) => number,
            RoundMark::EveryRound => i64::MAX,
        }
    }

    /// Reads the column `round`, or a number that came with a message.
    pub(crate) const fn from_code(code: i64) -> Self {
        match code {
            ..=0 => RoundMark::None,
            i64::MAX => RoundMark::EveryRound,
            number => RoundMark::Round(number),
        }
    }

    /// The round after this one.
    pub(crate) const fn next(self) -> Self {
        match self {
            RoundMark::None => RoundMark::Round(1),
            RoundMark::Round(number) => RoundMark::from_code(number.saturating_add(1)),
            RoundMark::EveryRound => RoundMark::EveryRound,
        }
    }

    /// Whether a message is about this round. One that names no round is about any.
    pub(crate) fn matches(self, round: Option<i64>) -> bool {
        round.is_none_or(|round| Self::from_code(round) == self)
    }

    /// The number of the round, if it is a single one.
    pub(crate) const fn number(self) -> Option<i64> {
        match self {
            RoundMark::Round(number) => Some(number),
            RoundMark::None | RoundMark::EveryRound => None,
        }
    }
}

/// Where a synchronized group stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GroupPhase {
    /// In a round: so many of its tasks have reserved.
    Reserving { reserved: u32 },
    /// A round has failed, and the next one has not begun.
    BetweenRounds,
}

impl Default for GroupPhase {
    fn default() -> Self {
        GroupPhase::Reserving { reserved: 0 }
    }
}

/// The column `reserved`: of a group, its phase; of another task, whether it holds a reservation.
impl TaskState {
    /// What the column holds.
    pub(crate) const fn reserved_code(&self) -> i64 {
        match (self.kind, self.phase) {
            (TaskKind::Synchronized, GroupPhase::BetweenRounds) => -1,
            (TaskKind::Synchronized, GroupPhase::Reserving { reserved }) => reserved as i64,
            _ => self.holds_reservation as i64,
        }
    }

    /// What the column says of a task of this kind: its phase, and whether it holds a reservation.
    pub(crate) fn from_reserved_code(kind: TaskKind, code: i64) -> (GroupPhase, bool) {
        match (kind, u32::try_from(code)) {
            (TaskKind::Synchronized, Ok(reserved)) => (GroupPhase::Reserving { reserved }, false),
            (TaskKind::Synchronized, Err(_)) => (GroupPhase::BetweenRounds, false),
            _ => (GroupPhase::default(), code > 0),
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
    /// Of a sent task, the certificate that its receiver must show; of a received one, that with
    /// which it came.
    pub(crate) certificate: Option<Fingerprint>,
    pub(crate) queue: Arc<str>,
    pub(crate) action: Arc<str>,
    /// Text of its sender's that travels with it; see [`check_trace`].
    pub(crate) trace: Option<Arc<str>>,
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
    /// How many runs in a row were interrupted.
    pub(crate) interrupted: i64,
    /// The claim's fencing number: a completion under an older one is ignored.
    pub(crate) epoch: i64,
    /// The process that runs it now.
    pub(crate) owner: Option<NodeId>,
    /// The newest update: sent, where we run the task; applied, where we sent it.
    pub(crate) rev: i64,
    /// The round that a synchronized group is in; of one of its tasks, that of its reservation.
    pub(crate) round: RoundMark,
    /// Of a synchronized group: where it stands in its round.
    pub(crate) phase: GroupPhase,
    /// Of a task of a group: it has reserved something, which neither its run nor its
    /// `cancel_reservation` has released yet.
    pub(crate) holds_reservation: bool,
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
    /// A new local task.
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
            trace: None,
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
            round: RoundMark::None,
            phase: GroupPhase::default(),
            holds_reservation: false,
            wake_at: None,
            report_at: None,
            run_at: None,
            expires_at: None,
            modified_at: now,
        }
    }
}

impl TaskState {
    /// The certificate without which its receiver neither gets a message about it nor may send
    /// one.
    pub(crate) fn pin(&self) -> Option<Fingerprint> {
        self.certificate.filter(|_| self.role == Role::Sent)
    }
}

/// The longest trace, in bytes.
pub(crate) const LONGEST_TRACE: usize = 512;

/// Whether a text can be the trace of a task; if not, says why.
pub(crate) fn check_trace(text: &str) -> Result<(), String> {
    if text.len() > LONGEST_TRACE {
        return Err(format!(
            "a trace of {} bytes; at most {LONGEST_TRACE} are allowed",
            text.len()
        ));
    }
    if text.contains('\0') {
        return Err("a trace that holds the character U+0000".to_owned());
    }
    Ok(())
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
    pub trace: Option<String>,
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Databases of earlier versions hold these numbers.
    #[test]
    fn the_state_of_a_group_keeps_its_numbers_in_the_database() {
        for (code, mark) in [
            (0, RoundMark::None),
            (1, RoundMark::Round(1)),
            (4096, RoundMark::Round(4096)),
            (i64::MAX, RoundMark::EveryRound),
        ] {
            assert_eq!((mark.code(), RoundMark::from_code(code)), (code, mark));
        }
        let (group, task) = (TaskKind::Synchronized, TaskKind::Sequential);
        let reserving = |reserved| GroupPhase::Reserving { reserved };
        for (kind, code, phase, holds) in [
            (group, -1, GroupPhase::BetweenRounds, false),
            (group, 0, reserving(0), false),
            (group, 3, reserving(3), false),
            (task, 0, reserving(0), false),
            (task, 1, reserving(0), true),
        ] {
            let read = TaskState::from_reserved_code(kind, code);
            assert_eq!(read, (phase, holds), "{kind} {code}");
            let state = TaskState {
                kind,
                phase,
                holds_reservation: holds,
                ..TaskState::new(Timestamp::UNIX_EPOCH)
            };
            assert_eq!(state.reserved_code(), code, "{kind} {code}");
        }
    }

    #[test]
    fn a_later_round_is_a_greater_one() {
        assert!(RoundMark::None < RoundMark::Round(1));
        assert!(RoundMark::Round(1) < RoundMark::Round(2));
        assert!(RoundMark::Round(2) < RoundMark::EveryRound);
    }
}
