//! How tasks end: by themselves, because their tree ends, because their time is over, because
//! they are cancelled.

use jiff::Timestamp;

use super::{
    batch_state::{MissingRow, TaskEvent},
    event::{Answer, Received},
    messages::{self, error_output},
    ownership,
    step_context::{Consequence, StepContext},
};
use crate::model::{Json, Role, RunPhase, Status, TaskId, TaskKind, TaskState, error::TaskError};

/// The task, unless it has ended.
pub(super) fn open(ctx: &StepContext<'_>, id: &TaskId) -> Result<Option<TaskState>, MissingRow> {
    Ok(ctx
        .task(id)?
        .filter(|task| !task.status.is_terminal())
        .cloned())
}

/// Ends a task whose children have all ended. Its sender and its parent learn of it. Without an
/// `output` it keeps the one it has.
pub(super) fn finish(
    ctx: &mut StepContext<'_>,
    task: TaskState,
    status: Status,
    output: Option<Json>,
    now: Timestamp,
) {
    finish_as(ctx, task, status, output, TaskEvent::Changed, now);
}

/// Ends a task like [`finish`], with an error.
pub(super) fn fail(ctx: &mut StepContext<'_>, task: TaskState, error: &TaskError, now: Timestamp) {
    finish(ctx, task, Status::Error, Some(error_output(error)), now);
}

/// Like [`finish`], with its own line in the task log.
pub(super) fn finish_as(
    ctx: &mut StepContext<'_>,
    mut task: TaskState,
    status: Status,
    output: Option<Json>,
    note: TaskEvent,
    now: Timestamp,
) {
    release_slot(&mut task);
    task.status = status;
    task.wake_at = None;
    task.run_at = None;
    task.modified_at = now;
    if task.role == Role::Received && task.kind != TaskKind::Message {
        task.rev += 1;
        ctx.send(messages::update(&task, output.as_ref()));
    }
    if task.parent.is_some() {
        ctx.entail(Consequence::Ended(task.id.clone()));
    }
    ctx.change(task, output, note);
}

/// Ends a task whose children may still be open, and them with it.
pub(super) fn stop(
    ctx: &mut StepContext<'_>,
    task: TaskState,
    status: Status,
    error: &TaskError,
    now: Timestamp,
) -> Result<(), MissingRow> {
    if task.open_children > 0 {
        for child in ctx.children(&task.id)? {
            ctx.entail(Consequence::Cancel(child));
        }
    }
    if task.owner.is_some() {
        ctx.cancel_run(task.id.clone());
    }
    // A task that has not arrived is cancelled once its delivery is known
    // (`outbound_task::delivered`).
    let arrived = task.role == Role::Sent && task.status != Status::Created;
    if arrived && matches!(status, Status::Cancelled | Status::Expired) {
        ctx.send(messages::cancel(&task));
    }
    finish(ctx, task, status, Some(error_output(error)), now);
    Ok(())
}

/// Takes the slot from a task that ends. Its reservation is still to be released: by a run that
/// does so already, by the handler that has started on it, or by a run to come.
fn release_slot(task: &mut TaskState) {
    match task.moment.filter(|_| task.owner.is_some()) {
        Some(RunPhase::CancelReservation) => return,
        Some(RunPhase::Execute) => task.holds_reservation = false,
        _ => {}
    }
    let holds = task.role != Role::Sent && task.holds_reservation;
    task.moment = holds.then_some(RunPhase::CancelReservation);
    task.owner = None;
}

/// Has the handler decide about an error, which takes the place of the output until then.
pub(super) fn ask_handler(
    ctx: &mut StepContext<'_>,
    mut task: TaskState,
    error: &TaskError,
    now: Timestamp,
) {
    task.moment = Some(RunPhase::HandleError);
    task.modified_at = now;
    ctx.change(task, Some(error_output(error)), TaskEvent::Failing);
}

/// The tree of a task has ended.
pub(super) fn cancel_with_tree(
    ctx: &mut StepContext<'_>,
    id: &TaskId,
    now: Timestamp,
) -> Result<(), MissingRow> {
    let Some(task) = open(ctx, id)? else {
        return Ok(());
    };
    let why = TaskError::new(TaskError::CANCELLED, "the tree it belongs to has ended");
    stop(ctx, task, Status::Cancelled, &why, now)
}

/// Our own code, or the operator, cancels a task.
pub(super) fn cancel(
    ctx: &mut StepContext<'_>,
    id: &TaskId,
    why: &str,
    now: Timestamp,
) -> Result<Answer, MissingRow> {
    let Some(task) = ctx.task(id)?.cloned() else {
        return Ok(Answer::UnknownTask);
    };
    if task.status.is_terminal() {
        let why = format!("task {id} has ended before, as {}", task.status);
        return Ok(Answer::Conflict(why));
    }
    let error = TaskError::new(TaskError::CANCELLED, why);
    stop(ctx, task, Status::Cancelled, &error, now)?;
    Ok(Answer::Accepted)
}

/// The sender of a task cancels it.
pub(super) fn cancel_by_sender(
    ctx: &mut StepContext<'_>,
    received: &Received,
    id: &TaskId,
    now: Timestamp,
) -> Result<Answer, MissingRow> {
    let Some(task) = ownership::given_by_sender(ctx, received, id)? else {
        return Ok(Answer::UnknownTask);
    };
    if !task.status.is_terminal() {
        let error = TaskError::new(TaskError::CANCELLED, "its sender cancelled it");
        stop(ctx, task, Status::Cancelled, &error, now)?;
    }
    Ok(Answer::Accepted)
}

/// The expiration date of a task has come.
pub(super) fn expire(
    ctx: &mut StepContext<'_>,
    id: &TaskId,
    now: Timestamp,
) -> Result<Answer, MissingRow> {
    let Some(task) = open(ctx, id)?.filter(|task| is_over(task, now)) else {
        return Ok(Answer::Ignored);
    };
    stop_expired(ctx, task, now)?;
    Ok(Answer::Accepted)
}

/// Whether the expiration date of a task has come.
pub(super) fn is_over(task: &TaskState, now: Timestamp) -> bool {
    task.expires_at.is_some_and(|at| at <= now)
}

/// Ends a task whose expiration date has come.
pub(super) fn stop_expired(
    ctx: &mut StepContext<'_>,
    task: TaskState,
    now: Timestamp,
) -> Result<(), MissingRow> {
    let error = TaskError::new(
        TaskError::EXPIRED,
        "its expiration date came before its end",
    );
    stop(ctx, task, Status::Expired, &error, now)
}
