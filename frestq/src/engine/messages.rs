//! The messages that decisions cause, and errors as outputs.

use crate::{
    model::{Data, Json, Outgoing, RoundMark, TaskState, error::TaskError, null, to_json},
    protocol::{INTERNAL_QUEUE, InternalAction},
};

/// A task on its way to the peer that is to run it.
pub(super) fn task(task: &TaskState) -> Outgoing {
    Outgoing {
        peer: task.peer,
        queue: task.queue.clone(),
        action: task.action.clone(),
        task: task.id.clone(),
        data: Data::Input,
        rev: None,
        round: None,
        trace: task.trace.clone(),
        expires_at: task.expires_at,
        not_before: task.run_at,
        carries_task: true,
        pin: task.pin(),
        needs_extensions: false,
    }
}

/// The status of a task, for its sender. Without an `output`, the one that the task has goes
/// along.
pub(super) fn update(task: &TaskState, output: Option<&Json>) -> Outgoing {
    let data = Data::Update {
        status: task.status.on_the_wire(),
        output: output.cloned(),
    };
    Outgoing {
        rev: Some(task.rev),
        ..internal(task, InternalAction::UpdateTask, data)
    }
}

/// Tells the receiver of a task to stop working on it. Original peers know no such message.
pub(super) fn cancel(task: &TaskState) -> Outgoing {
    Outgoing {
        needs_extensions: true,
        ..internal(task, InternalAction::CancelTask, Data::Nothing)
    }
}

/// Asks a participant to reserve for a round.
pub(super) fn synchronize(task: &TaskState, round: RoundMark) -> Outgoing {
    let data = Data::Synchronize {
        queue: task.queue.clone(),
        action: task.action.clone(),
    };
    Outgoing {
        round: round.number(),
        trace: task.trace.clone(),
        expires_at: task.expires_at,
        not_before: task.run_at,
        carries_task: true,
        // An original peer that is asked a second time takes it for another task.
        needs_extensions: round > RoundMark::Round(1),
        ..internal(task, InternalAction::SynchronizeTask, data)
    }
}

/// Tells the director that a task has reserved, and for how long it holds that. Without a
/// `reservation`, the one that the task has goes along.
pub(super) fn confirm(task: &TaskState, reservation: Option<&Json>, seconds: u64) -> Outgoing {
    let data = Data::Confirm {
        reservation: reservation.cloned(),
        seconds,
    };
    Outgoing {
        round: task.round.number(),
        ..internal(task, InternalAction::ConfirmReservation, data)
    }
}

/// Tells the director that a task can't reserve, or has lost its reservation.
pub(super) fn refuse(task: &TaskState) -> Outgoing {
    Outgoing {
        round: task.round.number(),
        needs_extensions: true,
        ..internal(task, InternalAction::RefuseReservation, Data::Nothing)
    }
}

/// Tells a participant that the round has ended.
pub(super) fn cancel_reservation(task: &TaskState, round: RoundMark) -> Outgoing {
    Outgoing {
        round: round.number(),
        needs_extensions: true,
        ..internal(task, InternalAction::CancelReservation, Data::Nothing)
    }
}

/// Starts a participant.
pub(super) fn execute(task: &TaskState, round: RoundMark) -> Outgoing {
    let data = Data::Execute {
        queue: task.queue.clone(),
        action: task.action.clone(),
    };
    Outgoing {
        round: round.number(),
        expires_at: task.expires_at,
        // A task that can't be started ends, and its group with it.
        carries_task: true,
        ..internal(task, InternalAction::ExecuteSynchronized, data)
    }
}

/// A message about a task between the two peers that share it.
fn internal(task: &TaskState, action: InternalAction, data: Data) -> Outgoing {
    Outgoing {
        peer: task.peer,
        queue: INTERNAL_QUEUE.into(),
        action: action.as_str().into(),
        task: task.id.clone(),
        data,
        rev: None,
        round: None,
        trace: None,
        expires_at: None,
        not_before: None,
        carries_task: false,
        pin: task.pin(),
        needs_extensions: false,
    }
}

/// An error as the output of its task.
pub(super) fn error_output(error: &TaskError) -> Json {
    to_json(error).unwrap_or_else(|_| null())
}
