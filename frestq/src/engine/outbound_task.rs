//! A task that we give to another peer: sent, delivered or not, and updated by its receiver.

use jiff::Timestamp;

use super::{
    batch_state::{MissingRow, TaskEvent},
    ending::{fail, finish, finish_as},
    event::{Answer, Delivery, DeliveryOutcome, Received, Update},
    messages::{self, error_output},
    ownership,
    step_context::StepContext,
    transition::allowed,
};
use crate::model::{Status, TaskState, error::TaskError};

/// The task's turn has come: it goes to its peer.
pub(super) fn send(ctx: &mut StepContext<'_>, task: &TaskState) {
    ctx.send(messages::task(task));
}

/// The receiver reports. Only what is newer and leads forward has an effect.
pub(super) fn update(
    ctx: &mut StepContext<'_>,
    received: &Received,
    update: &Update,
    now: Timestamp,
) -> Result<Answer, MissingRow> {
    let Some(mut task) = ownership::given_to_sender(ctx, received, &update.task)? else {
        return Ok(Answer::UnknownTask);
    };
    let newer = update.rev.is_none_or(|rev| rev > task.rev);
    if !newer || !allowed(task.status, update.status) {
        return Ok(Answer::Accepted);
    }
    task.rev = update.rev.unwrap_or(task.rev);
    let output = Some(update.output.clone());
    if update.status.is_terminal() {
        finish_as(ctx, task, update.status, output, TaskEvent::Updated, now);
    } else {
        task.status = update.status;
        task.modified_at = now;
        ctx.change(task, output, TaskEvent::Updated);
    }
    Ok(Answer::Accepted)
}

/// A message that carried a task was answered or given up.
pub(super) fn delivered(
    ctx: &mut StepContext<'_>,
    delivery: &Delivery,
    now: Timestamp,
) -> Result<(), MissingRow> {
    let Some(task) = ctx.task(&delivery.message.task)?.cloned() else {
        return Ok(());
    };
    let has_ended = task.status.is_terminal();
    match &delivery.verdict {
        // The result may have overtaken the acknowledgement.
        DeliveryOutcome::Delivered if task.status == Status::Created => {
            let sent = TaskState {
                status: Status::Sent,
                modified_at: now,
                ..task
            };
            ctx.change(sent, None, TaskEvent::Changed);
        }
        // Cancelled while it was on its way: the receiver has it, or may have it.
        DeliveryOutcome::Delivered | DeliveryOutcome::GivenUp { .. }
            if matches!(task.status, Status::Cancelled | Status::Expired) =>
        {
            ctx.send(messages::cancel(&task));
        }
        DeliveryOutcome::Refused { status, why } if !has_ended => {
            // A participant may know the task from an earlier round.
            if delivery.message.queue != task.queue {
                ctx.send(messages::cancel(&task));
            }
            let error = refusal(&task, *status, why);
            fail(ctx, task, &error, now);
        }
        DeliveryOutcome::GivenUp { why } if !has_ended => {
            // It may have arrived all the same, and only the answer been lost.
            ctx.send(messages::cancel(&task));
            let error = TaskError::new(TaskError::UNDELIVERABLE, why.clone());
            let output = Some(error_output(&error));
            finish(ctx, task, Status::Undeliverable, output, now);
        }
        DeliveryOutcome::Delivered
        | DeliveryOutcome::Later { .. }
        | DeliveryOutcome::Refused { .. }
        | DeliveryOutcome::GivenUp { .. } => {}
    }
    Ok(())
}

/// The error of a task that its receiver has refused.
fn refusal(task: &TaskState, status: u16, why: &str) -> TaskError {
    let asked = format!("{}/{}", task.queue, task.action);
    if status == 404 {
        let why = format!("the peer has no action {asked}: {why}");
        TaskError::new(TaskError::UNKNOWN_ACTION, why)
    } else {
        let why = format!("the peer refused {asked} with {status}: {why}");
        TaskError::new(TaskError::REFUSED, why)
    }
}
