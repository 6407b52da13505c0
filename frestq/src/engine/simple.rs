//! A task that we hand to another peer: sent, delivered or not, and updated by its receiver.

use jiff::Timestamp;

use super::{
    event::{Answer, Delivery, Received, Update, Verdict},
    sequential,
    transition::allowed,
    world::{Missing, Note, Turn},
};
use crate::{
    error::TaskError,
    model::{Json, NewTask, Outgoing, Role, Status, TaskState, null, to_json},
};

/// Our own code hands out a task: stored, with the message that carries it; or, for this peer
/// itself, stored to be run.
pub(super) fn send(turn: &mut Turn<'_>, task: &NewTask) -> Result<Answer, Missing> {
    let state = &task.state;
    if turn.is_there(&state.id) {
        // An earlier transaction with this very event came through, though its answer was lost.
        return Ok(Answer::Accepted);
    }
    if state.role == Role::Sent {
        turn.send(Outgoing {
            peer: state.peer,
            queue: state.queue.clone(),
            action: state.action.clone(),
            task: state.id.clone(),
            data: task.input.clone(),
            rev: None,
            info: task.info.clone(),
            pingback_at: task.pingback_at,
            expires_at: state.expires_at,
            not_before: state.run_at,
            carries_task: true,
        });
    }
    turn.create(task.clone(), Note::Created);
    Ok(Answer::Accepted)
}

/// The receiver reports. Only the receiver counts; only what is newer and leads forward has effect.
pub(super) fn update(
    turn: &mut Turn<'_>,
    received: &Received,
    update: &Update,
    now: Timestamp,
) -> Result<Answer, Missing> {
    let Some(task) = turn.task(&update.task)? else {
        return Ok(Answer::UnknownTask);
    };
    if task.role != Role::Sent || task.peer != received.row.key.peer {
        return Ok(Answer::UnknownTask);
    }
    let newer = update.rev.is_none_or(|rev| rev > task.rev);
    if !newer || !allowed(task.status, update.status) {
        return Ok(Answer::Accepted);
    }
    let mut task = task.clone();
    task.status = update.status;
    task.rev = update.rev.unwrap_or(task.rev);
    task.modified_at = now;
    turn.change(task, Some(update.output.clone()), Note::Updated);
    Ok(Answer::Accepted)
}

/// A message of ours was answered or given up; if it carried a task, that task learns of it.
pub(super) fn delivery(
    turn: &mut Turn<'_>,
    delivery: &Delivery,
    now: Timestamp,
) -> Result<Answer, Missing> {
    if delivery.message.carries_task
        && let Some(task) = turn.task(&delivery.message.task)?
    {
        let task = task.clone();
        match &delivery.verdict {
            // The result may have overtaken the acknowledgement.
            Verdict::Delivered if task.status == Status::Created => {
                turn.change(
                    TaskState {
                        status: Status::Sent,
                        modified_at: now,
                        ..task
                    },
                    None,
                    Note::Changed,
                );
            }
            Verdict::Delivered | Verdict::Later { .. } => {}
            Verdict::Refused { status, why } if !task.status.is_terminal() => {
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
                sequential::end(turn, task, Status::Error, error_output(&error), now);
            }
            Verdict::GivenUp { why } if !task.status.is_terminal() => {
                let error = TaskError::new(TaskError::UNDELIVERABLE, why.clone());
                sequential::end(turn, task, Status::Error, error_output(&error), now);
            }
            Verdict::Refused { .. } | Verdict::GivenUp { .. } => {}
        }
    }
    if let Verdict::Refused { status, why } = &delivery.verdict
        && !delivery.message.carries_task
        && matches!(status, 400 | 413 | 422)
    {
        instead_of_output(turn, delivery, *status, why)?;
    }
    turn.settle(Delivery {
        message: delivery.message.clone(),
        verdict: delivery.verdict.clone(),
    });
    Ok(Answer::Accepted)
}

/// The sender of a task can't take its output (it is too large for it, or nests too deep). It is
/// told so in a message that it can take, once, so that its task ends too.
fn instead_of_output(
    turn: &mut Turn<'_>,
    delivery: &Delivery,
    status: u16,
    why: &str,
) -> Result<(), Missing> {
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
    turn.send(sequential::update_message(&update, &error_output(&error)));
    Ok(())
}

const NOT_TAKEN: &str =
    "the task ended, but its output was not taken by the peer that asked for it";

/// An error as the output of its task.
pub(super) fn error_output(error: &TaskError) -> Json {
    to_json(error).unwrap_or_else(|_| null())
}
