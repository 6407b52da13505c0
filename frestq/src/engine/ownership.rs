//! Whether the sender of a message has a say about a task.

use super::{batch_state::MissingRow, event::Received, step_context::StepContext};
use crate::model::{Role, TaskId, TaskState};

/// The task, if the sender of the message gave it to us.
pub(super) fn given_by_sender(
    ctx: &StepContext<'_>,
    received: &Received,
    id: &TaskId,
) -> Result<Option<TaskState>, MissingRow> {
    let from = received.row.key.peer;
    let task = ctx.task(id)?;
    let theirs = task.filter(|task| task.role == Role::Received && task.peer == from);
    Ok(theirs.cloned())
}

/// The task, if we gave it to the sender of the message, and the sender has shown the
/// certificate that it must show.
pub(super) fn given_to_sender(
    ctx: &StepContext<'_>,
    received: &Received,
    id: &TaskId,
) -> Result<Option<TaskState>, MissingRow> {
    let task = ctx.task(id)?.filter(|task| {
        task.role == Role::Sent
            && task.peer == received.row.key.peer
            && (task.pin().is_none() || task.pin() == received.certificate)
    });
    Ok(task.cloned())
}
