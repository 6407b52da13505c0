//! A task that waits for a person.

use jiff::Timestamp;

use super::{
    event::Answer,
    family::finish,
    simple::error_output,
    world::{MissingRow, StepContext},
};
use crate::model::{Json, Status, TaskId, TaskKind, error::TaskError};

/// Somebody has decided.
pub(super) fn end(
    turn: &mut StepContext<'_>,
    id: &TaskId,
    outcome: &Result<Json, TaskError>,
    now: Timestamp,
) -> Result<Answer, MissingRow> {
    let Some(task) = turn.task(id)?.cloned() else {
        return Ok(Answer::UnknownTask);
    };
    if task.kind != TaskKind::External {
        let why = format!(
            "task {id} is {}, not external: it ends by itself",
            task.kind
        );
        return Ok(Answer::Conflict(why));
    }
    if task.status.is_terminal() {
        let why = format!("task {id} has ended before, as {}", task.status);
        return Ok(Answer::Conflict(why));
    }
    if task.status != Status::Executing {
        let why = format!("task {id} does not wait yet: what comes before it has not ended");
        return Ok(Answer::Conflict(why));
    }
    match outcome {
        Ok(output) => finish(turn, task, Status::Finished, Some(output.clone()), now),
        Err(error) => finish(turn, task, Status::Error, Some(error_output(error)), now),
    }
    Ok(Answer::Accepted)
}
