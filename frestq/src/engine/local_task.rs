//! A task that runs here, received or our own: queued, executed, recovered, interrupted.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    batch_state::{MissingRow, TaskEvent},
    ending::{ask_handler, fail, finish, stop},
    event::{Answer, Delivery, Done},
    messages::{self, error_output},
    run,
    step_context::{Consequence, StepContext},
    tree,
};
use crate::model::{
    ActionOptions, NewTask, OnFailure, Role, RunPhase, Status, TaskState, backoff, error::TaskError,
};

/// A peer gives us a task. Its id must be new: a finished task is not run again under another
/// message id, and no peer takes over the task of another.
pub(super) fn receive(ctx: &mut StepContext<'_>, task: &NewTask) -> Result<Answer, MissingRow> {
    if ctx.task(&task.state.id)?.is_some() {
        return Ok(Answer::used_before(&task.state.id));
    }
    ctx.create(task.clone(), TaskEvent::Received);
    ctx.entail(Consequence::Activate(task.state.id.clone()));
    Ok(Answer::Accepted)
}

/// The task's turn has come: it waits for a slot.
pub(super) fn enqueue(ctx: &mut StepContext<'_>, mut task: TaskState) {
    task.moment = Some(RunPhase::Execute);
    ctx.change_quietly(task, None);
}

/// The run of `execute` has ended.
pub(super) fn executed(
    ctx: &mut StepContext<'_>,
    mut task: TaskState,
    outcome: &Result<Box<Done>, TaskError>,
    options: &ActionOptions,
    now: Timestamp,
) -> Result<(), MissingRow> {
    match outcome {
        Ok(done) => return succeeded(ctx, task, done, options, now),
        Err(_) if task.failures < i64::from(options.retries) => {
            task.failures += 1;
            let wait = backoff::schedule(task.failures);
            task.status = Status::Created;
            run::again(ctx, task, RunPhase::Execute, wait, now);
        }
        Err(error) if options.handles_errors => ask_handler(ctx, task, error, now),
        Err(error) => fail(ctx, task, error, now),
    }
    Ok(())
}

/// The work is done. The task ends, unless its handler has added subtasks.
fn succeeded(
    ctx: &mut StepContext<'_>,
    mut task: TaskState,
    done: &Done,
    options: &ActionOptions,
    now: Timestamp,
) -> Result<(), MissingRow> {
    if let (Some(output), Some(parent)) = (&done.parent_output, &task.parent)
        && let Some(parent) = ctx
            .task(parent)?
            .filter(|p| !p.status.is_terminal())
            .cloned()
    {
        ctx.change_quietly(parent, Some(output.clone()));
    }
    let mine = done
        .children
        .iter()
        .filter(|child| child.state.parent.as_ref() == Some(&task.id));
    task.open_children = i64::try_from(mine.count()).unwrap_or(i64::MAX);
    if options.handles_errors {
        task.on_failure = OnFailure::AskHandler;
    }
    if task.open_children == 0 {
        finish(ctx, task, Status::Finished, Some(done.output.clone()), now);
        return Ok(());
    }
    if task.role == Role::Received {
        task.rev += 1;
        ctx.send(messages::update(&task, Some(&done.output)));
    }
    let id = task.id.clone();
    ctx.change(task, Some(done.output.clone()), TaskEvent::Changed);
    for child in &done.children {
        ctx.create(child.clone(), TaskEvent::Created);
    }
    tree::start_first_child(ctx, &id)
}

/// The run of `handle_error` has ended.
pub(super) fn recovered(
    ctx: &mut StepContext<'_>,
    task: TaskState,
    outcome: &Result<Box<Done>, TaskError>,
    now: Timestamp,
) -> Result<(), MissingRow> {
    match outcome {
        Err(error) => stop(ctx, task, Status::Error, error, now),
        Ok(done) if task.open_children == 0 => {
            finish(ctx, task, Status::Finished, Some(done.output.clone()), now);
            Ok(())
        }
        Ok(done) => {
            ctx.change_quietly(task.clone(), Some(done.output.clone()));
            tree::go_on(ctx, task, now)
        }
    }
}

/// The process that ran the task is gone, or has released it. `task`: without its owner, and
/// with this interruption counted.
pub(super) fn interrupted(
    ctx: &mut StepContext<'_>,
    mut task: TaskState,
    moment: RunPhase,
    options: &ActionOptions,
    now: Timestamp,
) -> Result<(), MissingRow> {
    let too_often = task.interrupted >= i64::from(options.max_attempts);
    let error = match moment {
        RunPhase::Execute if options.at_most_once || task.at_most_once => TaskError::new(
            TaskError::INTERRUPTED,
            "its run was interrupted, and the action may run at most once: an operator has to find out \
             whether it took effect",
        ),
        // The error that it was asked about stands.
        RunPhase::HandleError if too_often => ctx.error_of(&task.id)?,
        _ if too_often => TaskError::new(
            TaskError::INTERRUPTED,
            format!(
                "its run was interrupted {} times, the most allowed",
                task.interrupted
            ),
        ),
        _ => {
            if moment == RunPhase::Execute {
                task.status = Status::Created;
            }
            run::again(ctx, task, moment, Duration::ZERO, now);
            return Ok(());
        }
    };
    stop(ctx, task, Status::Error, &error, now)
}

const NOT_TAKEN: &str =
    "the task ended, but its output was not taken by the peer that asked for it";

/// The sender of a task refuses its output: it is too large for it, or nests too deep. It gets,
/// once, a message that it can accept, so that its task ends too.
pub(super) fn output_refused(
    ctx: &mut StepContext<'_>,
    delivery: &Delivery,
    status: u16,
    why: &str,
) -> Result<(), MissingRow> {
    let was_sent = delivery.message.body.contains(NOT_TAKEN);
    let Some(task) = ctx
        .task(&delivery.message.task)?
        .filter(|task| task.role == Role::Received && task.status.is_terminal() && !was_sent)
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
    ctx.send(messages::update(&update, Some(&error_output(&error))));
    Ok(())
}
