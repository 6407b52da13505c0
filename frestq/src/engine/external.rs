//! A task that waits for a person.

use jiff::Timestamp;

use super::{
    batch_state::MissingRow,
    ending::{fail, finish},
    event::Answer,
    step_context::StepContext,
};
use crate::model::{Json, Status, TaskId, TaskKind, error::TaskError};

/// A person has decided.
pub(super) fn end(
    ctx: &mut StepContext<'_>,
    id: &TaskId,
    outcome: &Result<Json, TaskError>,
    now: Timestamp,
) -> Result<Answer, MissingRow> {
    let Some(task) = ctx.task(id)?.cloned() else {
        return Ok(Answer::UnknownTask);
    };
    let why = if task.kind != TaskKind::External {
        format!(
            "task {id} is {}, not external: it ends by itself",
            task.kind
        )
    } else if task.status.is_terminal() {
        format!("task {id} has ended before, as {}", task.status)
    } else if task.status != Status::Executing {
        format!("task {id} does not wait yet: what comes before it has not ended")
    } else {
        match outcome {
            Ok(output) => finish(ctx, task, Status::Finished, Some(output.clone()), now),
            Err(error) => fail(ctx, task, error, now),
        }
        return Ok(Answer::Accepted);
    };
    Ok(Answer::Conflict(why))
}
