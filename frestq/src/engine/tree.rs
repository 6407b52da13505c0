//! How a tree goes on: the children of a task start, end, and hand over to one another.

use jiff::Timestamp;
use serde::Serialize;

use super::{
    batch_state::{MissingRow, TaskEvent},
    ending::{ask_handler, finish, is_over, open, stop, stop_expired},
    event::Answer,
    messages::error_output,
    step_context::{Consequence, StepContext},
};
use crate::model::{NewTask, OnFailure, Status, TaskId, TaskKind, TaskState, error::TaskError};

/// Stores a tree, its root first, and starts it.
pub(super) fn create(ctx: &mut StepContext<'_>, tree: &[NewTask]) -> Result<Answer, MissingRow> {
    let Some(root) = tree.first() else {
        return Ok(Answer::Accepted);
    };
    if ctx.is_known(&root.state.id) {
        // An earlier transaction with this very event was committed, though its answer was lost.
        return Ok(Answer::Accepted);
    }
    if let Some(key) = root.unique_key.as_deref()
        && let Some(open) = ctx.holder(key)?
    {
        return Ok(Answer::Known(open));
    }
    for task in tree {
        ctx.create(task.clone(), TaskEvent::Created);
    }
    ctx.entail(Consequence::Activate(root.state.id.clone()));
    Ok(Answer::Accepted)
}

/// The turn of a group, or of an external task, has come.
pub(super) fn start_group(
    ctx: &mut StepContext<'_>,
    mut task: TaskState,
    now: Timestamp,
) -> Result<(), MissingRow> {
    task.status = Status::Executing;
    task.modified_at = now;
    ctx.change(task.clone(), None, TaskEvent::Changed);
    match task.kind {
        TaskKind::External => {}
        _ if task.open_children == 0 => finish(ctx, task, Status::Finished, None, now),
        TaskKind::Parallel => {
            for child in ctx.children(&task.id)? {
                ctx.entail(Consequence::Activate(child));
            }
        }
        _ => start_first_child(ctx, &task.id)?,
    }
    Ok(())
}

/// The turn of a task has come that has ended before. In a sequence, its parent learns of it now.
pub(super) fn pass_ended(ctx: &mut StepContext<'_>, task: TaskState) -> Result<(), MissingRow> {
    if let Some(parent) = &task.parent
        && ctx.task(parent)?.is_some_and(is_sequence)
    {
        ctx.entail(Consequence::Ended(task.id));
    }
    Ok(())
}

/// The first of a sequence starts.
pub(super) fn start_first_child(
    ctx: &mut StepContext<'_>,
    parent: &TaskId,
) -> Result<(), MissingRow> {
    if let Some(child) = ctx.child(parent, 0)? {
        ctx.entail(Consequence::Activate(child));
    }
    Ok(())
}

/// Whether the children of a task follow one another.
fn is_sequence(parent: &TaskState) -> bool {
    !matches!(parent.kind, TaskKind::Parallel | TaskKind::Synchronized)
}

/// A task has ended, so its parent goes on, or ends too.
pub(super) fn child_ended(
    ctx: &mut StepContext<'_>,
    id: &TaskId,
    now: Timestamp,
) -> Result<(), MissingRow> {
    let Some(child) = ctx.task(id)?.cloned() else {
        return Ok(());
    };
    let Some(parent) = &child.parent else {
        return Ok(());
    };
    let Some(mut parent) = open(ctx, parent)? else {
        return Ok(());
    };
    let failed = child.status != Status::Finished;
    let its_turn = parent.status == Status::Executing && parent.place == child.order;
    let ends_parent = failed && parent.on_failure == OnFailure::End;
    if is_sequence(&parent) && !its_turn && !ends_parent {
        return Ok(());
    }
    if failed && is_over(&parent, now) {
        // The parent's date has come too, so its handler is not asked.
        return stop_expired(ctx, parent, now);
    }
    parent.open_children -= 1;
    if failed && parent.on_failure == OnFailure::WaitForAll {
        parent.failures += 1;
    } else if failed {
        let error = ctx.error_of(id)?;
        if parent.on_failure == OnFailure::AskHandler {
            ask_handler(ctx, parent, &error, now);
            return Ok(());
        }
        return stop(ctx, parent, Status::Error, &error, now);
    }
    if parent.kind == TaskKind::Synchronized && parent.status == Status::Syncing {
        ctx.change_quietly(parent, None);
        ctx.entail_next(Consequence::EndedEarly(child.id));
        return Ok(());
    }
    go_on(ctx, parent, now)
}

/// After a child: the next one, or the end.
pub(super) fn go_on(
    ctx: &mut StepContext<'_>,
    mut parent: TaskState,
    now: Timestamp,
) -> Result<(), MissingRow> {
    if parent.open_children > 0 {
        if is_sequence(&parent) {
            parent.place += 1;
            if let Some(next) = ctx.child(&parent.id, parent.place)? {
                ctx.entail(Consequence::Activate(next));
            }
        }
        ctx.change_quietly(parent, None);
        return Ok(());
    }
    if parent.kind == TaskKind::Parallel && parent.failures > 0 {
        let error = error_output(&all_failures(ctx, &parent)?);
        finish(ctx, parent, Status::Error, Some(error), now);
    } else {
        finish(ctx, parent, Status::Finished, None, now);
    }
    Ok(())
}

/// How many failures the error of a group lists, and in how many bytes: enough to see what they
/// have in common, and small enough to travel, even through many groups.
const MOST_LISTED: usize = 100;
const MOST_LISTED_BYTES: usize = 64 * 1024;

/// The error of a group that has waited for all of its children.
fn all_failures(ctx: &StepContext<'_>, group: &TaskState) -> Result<TaskError, MissingRow> {
    #[derive(Serialize)]
    struct Failure<'a> {
        id: &'a TaskId,
        queue: &'a str,
        action: &'a str,
        error: TaskError,
    }
    let mut failed = Vec::new();
    for child in ctx.children(&group.id)? {
        let child = ctx.task(&child)?.cloned();
        failed.extend(child.filter(|child| child.status != Status::Finished));
    }
    let first = &failed[..failed.len().min(MOST_LISTED)];
    let errors = ctx.errors_of(first.iter().map(|child| &child.id))?;
    let mut room = MOST_LISTED_BYTES;
    let mut failures = Vec::new();
    for (child, error) in first.iter().zip(errors) {
        let Some(rest) = room.checked_sub(error_output(&error).get().len()) else {
            break;
        };
        room = rest;
        failures.push(Failure {
            id: &child.id,
            queue: &child.queue,
            action: &child.action,
            error,
        });
    }
    let why = match (failed.len(), failures.len()) {
        (all, listed) if all > listed => {
            format!("{all} of its tasks failed, of which the first {listed} are listed")
        }
        (all, _) => format!("{all} of its tasks failed"),
    };
    Ok(TaskError::new(TaskError::CHILDREN_FAILED, why).with_data(&failures))
}
