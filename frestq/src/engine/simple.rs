//! A task that we hand to another peer: sent, delivered or not, and updated by its receiver.

use jiff::Timestamp;

use super::{
    event::{Answer, Delivery, DeliveryOutcome, Received, Update},
    family::{finish, finish_as},
    sequential,
    transition::allowed,
    world::{MissingRow, StepContext, TaskEvent},
};
use crate::model::{
    Data, Json, Outgoing, Role, Status, TaskState, error::TaskError, null, to_json,
};

/// The task's turn has come: it goes to its peer.
pub(super) fn send(turn: &mut StepContext<'_>, task: &TaskState) {
    turn.send(Outgoing {
        peer: task.peer,
        queue: task.queue.clone(),
        action: task.action.clone(),
        task: task.id.clone(),
        data: Data::Input,
        rev: None,
        round: None,
        expires_at: task.expires_at,
        not_before: task.run_at,
        carries_task: true,
        pin: task.pin(),
        needs_extensions: false,
    });
}

/// Tells the receiver that its work is not wanted any more. Original peers know no such message.
pub(super) fn cancel_message(task: &TaskState) -> Outgoing {
    Outgoing {
        peer: task.peer,
        queue: "internal.frestq".into(),
        action: "frestq.cancel_task".into(),
        task: task.id.clone(),
        data: Data::Nothing,
        rev: None,
        round: None,
        expires_at: None,
        not_before: None,
        carries_task: false,
        pin: task.pin(),
        needs_extensions: true,
    }
}

/// Whether a message comes from the peer that we gave this task to, with the certificate that it must
/// show.
pub(super) fn is_receiver(task: &TaskState, received: &Received) -> bool {
    task.role == Role::Sent
        && task.peer == received.row.key.peer
        && (task.pin().is_none() || task.pin() == received.certificate)
}

/// The receiver reports. Only the receiver counts; only what is newer and leads forward has effect.
pub(super) fn update(
    turn: &mut StepContext<'_>,
    received: &Received,
    update: &Update,
    now: Timestamp,
) -> Result<Answer, MissingRow> {
    let Some(task) = turn.task(&update.task)? else {
        return Ok(Answer::UnknownTask);
    };
    if !is_receiver(task, received) {
        return Ok(Answer::UnknownTask);
    }
    let newer = update.rev.is_none_or(|rev| rev > task.rev);
    if !newer || !allowed(task.status, update.status) {
        return Ok(Answer::Accepted);
    }
    let mut task = task.clone();
    task.rev = update.rev.unwrap_or(task.rev);
    let output = Some(update.output.clone());
    if update.status.is_terminal() {
        finish_as(turn, task, update.status, output, TaskEvent::Updated, now);
    } else {
        task.status = update.status;
        task.modified_at = now;
        turn.change(task, output, TaskEvent::Updated);
    }
    Ok(Answer::Accepted)
}

/// A message of ours was answered or given up; if it carried a task, that task learns of it.
pub(super) fn delivery(
    turn: &mut StepContext<'_>,
    delivery: &Delivery,
    now: Timestamp,
) -> Result<Answer, MissingRow> {
    if delivery.message.carries_task
        && let Some(task) = turn.task(&delivery.message.task)?
    {
        let task = task.clone();
        match &delivery.verdict {
            // The result may have overtaken the acknowledgement.
            DeliveryOutcome::Delivered if task.status == Status::Created => {
                turn.change(
                    TaskState {
                        status: Status::Sent,
                        modified_at: now,
                        ..task
                    },
                    None,
                    TaskEvent::Changed,
                );
            }
            // Called off while it was on its way: the receiver has it, or may have it.
            DeliveryOutcome::Delivered | DeliveryOutcome::GivenUp { .. }
                if matches!(task.status, Status::Cancelled | Status::Expired) =>
            {
                turn.send(cancel_message(&task));
            }
            DeliveryOutcome::Delivered | DeliveryOutcome::Later { .. } => {}
            DeliveryOutcome::Refused { status, why } if !task.status.is_terminal() => {
                let asked = format!("{}/{}", task.queue, task.action);
                let error = if *status == 404 {
                    TaskError::new(
                        TaskError::UNKNOWN_ACTION,
                        format!("the peer has no action {asked}: {why}"),
                    )
                } else {
                    TaskError::new(
                        TaskError::REFUSED,
                        format!("the peer refused {asked} with {status}: {why}"),
                    )
                };
                let output = Some(error_output(&error));
                // A performer may know the task from an earlier round.
                if delivery.message.queue != task.queue {
                    turn.send(cancel_message(&task));
                }
                finish(turn, task, Status::Error, output, now);
            }
            DeliveryOutcome::GivenUp { why } if !task.status.is_terminal() => {
                let error = TaskError::new(TaskError::UNDELIVERABLE, why.clone());
                let output = Some(error_output(&error));
                // It may have arrived all the same, and only the answer been lost.
                turn.send(cancel_message(&task));
                finish(turn, task, Status::Error, output, now);
            }
            DeliveryOutcome::Refused { .. } | DeliveryOutcome::GivenUp { .. } => {}
        }
    }
    if let DeliveryOutcome::Refused { status, why } = &delivery.verdict
        && !delivery.message.carries_task
        && matches!(status, 400 | 413 | 422)
    {
        match delivery.message.action.as_ref() {
            "frestq.confirm_task_reservation" => not_confirmed(turn, delivery, *status, why, now)?,
            _ => instead_of_output(turn, delivery, *status, why)?,
        }
    }
    turn.settle(Delivery {
        message: delivery.message.clone(),
        verdict: delivery.verdict.clone(),
    });
    Ok(Answer::Accepted)
}

/// The director can't take what a task has reserved, so it will never start it.
fn not_confirmed(
    turn: &mut StepContext<'_>,
    delivery: &Delivery,
    status: u16,
    why: &str,
    now: Timestamp,
) -> Result<(), MissingRow> {
    let reserved =
        |task: &&TaskState| task.role == Role::Received && task.status == Status::Reserved;
    let Some(task) = turn.task(&delivery.message.task)?.filter(reserved).cloned() else {
        return Ok(());
    };
    let why = format!("the peer that asked for a reservation did not take it: {status}: {why}");
    let error = TaskError::new(TaskError::UNDELIVERABLE, why);
    finish(turn, task, Status::Error, Some(error_output(&error)), now);
    Ok(())
}

/// The sender of a task can't take its output (it is too large for it, or nests too deep). It is
/// told so in a message that it can take, once, so that its task ends too.
fn instead_of_output(
    turn: &mut StepContext<'_>,
    delivery: &Delivery,
    status: u16,
    why: &str,
) -> Result<(), MissingRow> {
    let told = delivery.message.body.contains(NOT_TAKEN);
    let Some(task) = turn
        .task(&delivery.message.task)?
        .filter(|task| task.role == Role::Received && task.status.is_terminal() && !told)
    else {
        return Ok(());
    };
    let error = TaskError::new(
        TaskError::UNDELIVERABLE,
        format!("{NOT_TAKEN}: {status}: {why}"),
    );
    let update = TaskState {
        status: Status::Error,
        rev: task.rev + 1,
        ..task.clone()
    };
    turn.send(sequential::update_message(
        &update,
        Some(&error_output(&error)),
    ));
    Ok(())
}

const NOT_TAKEN: &str =
    "the task ended, but its output was not taken by the peer that asked for it";

/// An error as the output of its task.
pub(super) fn error_output(error: &TaskError) -> Json {
    to_json(error).unwrap_or_else(|_| null())
}
