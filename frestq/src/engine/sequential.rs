//! A task that runs here: received or our own, claimed, completed, cut off.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    event::{Answer, Done},
    family::{self, finish, stop},
    performer,
    simple::error_output,
    synchronized,
    world::{MissingRow, StepContext, TaskEvent},
};
use crate::model::{
    ActionOptions, Data, Json, NewTask, NodeId, OnFailure, Outgoing, Role, RunPhase, Status,
    TaskId, TaskState, backoff, error::TaskError, null,
};

/// A peer hands us a task. Its id must be new: a finished task is not run again under another
/// message id, and nobody takes over somebody else's.
pub(super) fn receive(turn: &mut StepContext<'_>, task: &NewTask) -> Result<Answer, MissingRow> {
    if turn.task(&task.state.id)?.is_some() {
        return Ok(Answer::Conflict(format!(
            "task_id {} was used before; a new task needs a new id",
            task.state.id
        )));
    }
    turn.create(task.clone(), TaskEvent::Received);
    family::activate(turn, task.state.id.clone());
    Ok(Answer::Accepted)
}

/// Whether the task waits for nothing but a slot. One that came too late waits for its end.
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

/// A handler's run ended.
pub(super) fn completed(
    turn: &mut StepContext<'_>,
    id: &TaskId,
    epoch: i64,
    outcome: &Result<Box<Done>, TaskError>,
    options: &ActionOptions,
    now: Timestamp,
) -> Result<Answer, MissingRow> {
    // Fenced: it counts only under the claim that it was started with.
    // One that has reserved keeps its owner, and waits for no run.
    let counts =
        |task: &&TaskState| task.epoch == epoch && task.owner.is_some() && task.moment.is_some();
    let Some(mut task) = turn.task(id)?.filter(counts).cloned() else {
        return Ok(Answer::Ignored);
    };
    let moment = task.moment.take();
    let owner = task.owner.take();
    task.interrupted = 0;
    let had_reserved = moment == Some(RunPhase::Execute) && task.reserved > 0;
    if had_reserved {
        // What was reserved was its own to give back, whatever came of it.
        task.reserved = 0;
        if outcome.is_err() && !task.status.is_terminal() {
            // If it runs again, then without.
            turn.set_reservation(id, null());
        }
    }
    task.modified_at = now;
    match (moment, outcome) {
        (Some(RunPhase::HandleError), outcome) => recovered(turn, task, outcome, now)?,
        (Some(RunPhase::Reserve), outcome) => {
            performer::reserved(turn, task, owner, outcome, now)?;
        }
        (Some(RunPhase::CancelReservation), _) => performer::given_back(turn, task),
        (Some(moment @ (RunPhase::PreExecute | RunPhase::EndRound)), outcome) => {
            synchronized::directed(turn, task, moment, outcome, now)?;
        }
        (_, Ok(done)) => worked(turn, task, done, options, now)?,
        (_, Err(_)) if task.failures < i64::from(options.retries) => {
            task.failures += 1;
            let wait = backoff::schedule(task.failures);
            task.status = Status::Created;
            again(turn, task, RunPhase::Execute, wait, now);
        }
        (_, Err(error)) if options.handles_errors => ask_about(turn, task, error, now),
        (_, Err(error)) => finish(turn, task, Status::Error, Some(error_output(error)), now),
    }
    Ok(Answer::Accepted)
}

/// A handler says how far it is.
pub(super) fn progressed(
    turn: &mut StepContext<'_>,
    id: &TaskId,
    epoch: i64,
    progress: &Json,
    now: Timestamp,
) -> Result<Answer, MissingRow> {
    let counts = |task: &&TaskState| task.epoch == epoch && task.owner.is_some();
    let Some(mut task) = turn.task(id)?.filter(counts).cloned() else {
        return Ok(Answer::Ignored);
    };
    task.modified_at = now;
    turn.set_progress(id, progress.clone());
    turn.change_quietly(task, None);
    Ok(Answer::Accepted)
}

/// The work is done: the end, unless it left subtasks.
fn worked(
    turn: &mut StepContext<'_>,
    mut task: TaskState,
    done: &Done,
    options: &ActionOptions,
    now: Timestamp,
) -> Result<(), MissingRow> {
    if let (Some(output), Some(parent)) = (&done.parent_output, &task.parent)
        && let Some(parent) = turn
            .task(parent)?
            .filter(|p| !p.status.is_terminal())
            .cloned()
    {
        turn.change_quietly(parent, Some(output.clone()));
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
        finish(turn, task, Status::Finished, Some(done.output.clone()), now);
        return Ok(());
    }
    if task.role == Role::Received {
        task.rev += 1;
        turn.send(update_message(&task, Some(&done.output)));
    }
    let id = task.id.clone();
    turn.change(task, Some(done.output.clone()), TaskEvent::Changed);
    for child in &done.children {
        turn.create(child.clone(), TaskEvent::Created);
    }
    family::first_child(turn, &id)
}

/// A child has failed, and no other may start: the task is asked what becomes of that, or ends too.
pub(super) fn child_failed(
    turn: &mut StepContext<'_>,
    parent: TaskState,
    error: &TaskError,
    now: Timestamp,
) -> Result<(), MissingRow> {
    if parent.on_failure == OnFailure::AskHandler {
        ask_about(turn, parent, error, now);
        return Ok(());
    }
    stop(turn, parent, Status::Error, error, now)
}

/// The handler is to say what becomes of an error, which takes the place of the output until then.
fn ask_about(turn: &mut StepContext<'_>, mut task: TaskState, error: &TaskError, now: Timestamp) {
    task.moment = Some(RunPhase::HandleError);
    task.modified_at = now;
    turn.change(task, Some(error_output(error)), TaskEvent::Failing);
}

/// The handler has said what becomes of an error.
fn recovered(
    turn: &mut StepContext<'_>,
    task: TaskState,
    outcome: &Result<Box<Done>, TaskError>,
    now: Timestamp,
) -> Result<(), MissingRow> {
    match outcome {
        Err(error) => stop(turn, task, Status::Error, error, now),
        Ok(done) if task.open_children == 0 => {
            finish(turn, task, Status::Finished, Some(done.output.clone()), now);
            Ok(())
        }
        Ok(done) => {
            turn.change_quietly(task.clone(), Some(done.output.clone()));
            family::go_on(turn, task, now)
        }
    }
}

/// The process that ran the task is gone, or released it.
pub(super) fn interrupted(
    turn: &mut StepContext<'_>,
    id: &TaskId,
    owner: NodeId,
    options: &ActionOptions,
    now: Timestamp,
) -> Result<Answer, MissingRow> {
    let Some(task) = turn.task(id)?.filter(|t| t.owner == Some(owner)).cloned() else {
        return Ok(Answer::Ignored);
    };
    let mut task = TaskState {
        owner: None,
        ..task
    };
    let Some(moment) = task.moment else {
        // What it has reserved stands, though its slot is gone: it waits for one when it is to start.
        turn.change_quietly(task, None);
        return Ok(Answer::Accepted);
    };
    task.interrupted += 1;
    let too_often = task.interrupted >= i64::from(options.max_attempts);
    let interrupted = |why| TaskError::new(TaskError::INTERRUPTED, why);
    match moment {
        RunPhase::Execute if options.at_most_once || task.at_most_once => {
            let error = interrupted(
                "its run was cut off, and the action may run at most once: whether it had its effect is for an operator to find out".to_owned(),
            );
            stop(turn, task, Status::Error, &error, now)?;
        }
        RunPhase::CancelReservation if too_often => performer::kept(turn, task),
        // The group goes on without that look back.
        RunPhase::EndRound if too_often => {
            (task.moment, task.interrupted) = (None, 0);
            synchronized::go_on_to_the_next_round(turn, task, now);
        }
        // The error that it was asked about stands.
        RunPhase::HandleError if too_often => {
            let error = turn.error_of(id)?;
            stop(turn, task, Status::Error, &error, now)?;
        }
        _ if too_often => {
            let runs = task.interrupted;
            let error = interrupted(format!(
                "its run was cut off {runs} times, the most allowed"
            ));
            stop(turn, task, Status::Error, &error, now)?;
        }
        RunPhase::Execute => {
            task.status = Status::Created;
            again(turn, task, moment, Duration::ZERO, now);
        }
        _ => again(turn, task, moment, Duration::ZERO, now),
    }
    Ok(Answer::Accepted)
}

/// Back to the queue for another run.
fn again(
    turn: &mut StepContext<'_>,
    mut task: TaskState,
    moment: RunPhase,
    wait: Duration,
    now: Timestamp,
) {
    task.moment = Some(moment);
    task.owner = None;
    task.run_at = (!wait.is_zero()).then(|| now.checked_add(wait).unwrap_or(Timestamp::MAX));
    task.modified_at = now;
    turn.change(task, None, TaskEvent::Again);
}

/// `frestq.update_task` (`restqp.md`, *Internal actions*). Without an `output`, the one that the task
/// has goes along.
pub(super) fn update_message(task: &TaskState, output: Option<&Json>) -> Outgoing {
    Outgoing {
        peer: task.peer,
        queue: "internal.frestq".into(),
        action: "frestq.update_task".into(),
        task: task.id.clone(),
        data: Data::Update {
            status: task.status.on_the_wire(),
            output: output.cloned(),
        },
        rev: Some(task.rev),
        round: None,
        expires_at: None,
        not_before: None,
        carries_task: false,
        pin: task.pin(),
        needs_extensions: false,
    }
}
