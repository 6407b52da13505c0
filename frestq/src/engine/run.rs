//! The runs of handlers: which task may run, which run counts, which is repeated.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    batch_state::{MissingRow, TaskEvent},
    event::Answer,
    step_context::StepContext,
};
use crate::model::{Json, NodeId, RunPhase, Status, TaskId, TaskState, null};

/// Whether the task waits only for a slot. One whose expiration date has come waits for its end.
pub(crate) fn runs_now(task: &TaskState, now: Timestamp) -> bool {
    task.moment.is_some()
        && task.owner.is_none()
        && task.run_at.is_none_or(|at| at <= now)
        && (task.expires_at.is_none_or(|at| at > now)
            || task.moment == Some(RunPhase::CancelReservation))
}

/// Starts a run: the next attempt, under a new epoch.
pub(crate) fn claim(task: &mut TaskState, node: NodeId, now: Timestamp) {
    if matches!(task.moment, Some(RunPhase::Execute | RunPhase::HandleError)) {
        task.status = Status::Executing;
        task.attempt += 1;
    }
    task.epoch += 1;
    task.owner = Some(node);
    task.run_at = None;
    task.modified_at = now;
}

/// A run that has ended, and whose result counts.
pub(super) struct EndedRun {
    /// The task, without what it ran for and without its owner.
    pub(super) task: TaskState,
    /// What it ran for.
    pub(super) moment: RunPhase,
    /// The process that ran it.
    pub(super) owner: NodeId,
}

/// Ends a run, if it counts: its epoch must be the task's, or the task has been claimed again
/// since.
pub(super) fn end(
    ctx: &mut StepContext<'_>,
    id: &TaskId,
    epoch: i64,
    failed: bool,
    now: Timestamp,
) -> Result<Option<EndedRun>, MissingRow> {
    let Some(mut task) = ctx.task(id)?.filter(|task| task.epoch == epoch).cloned() else {
        return Ok(None);
    };
    // A task that has reserved keeps its owner, though nothing runs.
    let (Some(moment), Some(owner)) = (task.moment.take(), task.owner.take()) else {
        return Ok(None);
    };
    task.interrupted = 0;
    task.modified_at = now;
    if moment == RunPhase::Execute && task.holds_reservation {
        // Whether it failed or not, the handler has released what was reserved.
        task.holds_reservation = false;
        if failed && !task.status.is_terminal() {
            // If it runs again, then without.
            ctx.set_reservation(id, null());
        }
    }
    Ok(Some(EndedRun {
        task,
        moment,
        owner,
    }))
}

/// Puts a task back into its queue for another run.
pub(super) fn again(
    ctx: &mut StepContext<'_>,
    mut task: TaskState,
    moment: RunPhase,
    wait: Duration,
    now: Timestamp,
) {
    task.moment = Some(moment);
    task.owner = None;
    task.run_at = (!wait.is_zero()).then(|| now.checked_add(wait).unwrap_or(Timestamp::MAX));
    task.modified_at = now;
    ctx.change(task, None, TaskEvent::Again);
}

/// A handler reports progress.
pub(super) fn progressed(
    ctx: &mut StepContext<'_>,
    id: &TaskId,
    epoch: i64,
    progress: &Json,
    now: Timestamp,
) -> Result<Answer, MissingRow> {
    let counts = |task: &&TaskState| task.epoch == epoch && task.owner.is_some();
    let Some(mut task) = ctx.task(id)?.filter(counts).cloned() else {
        return Ok(Answer::Ignored);
    };
    task.modified_at = now;
    ctx.set_progress(id, progress.clone());
    ctx.change_quietly(task, None);
    Ok(Answer::Accepted)
}
