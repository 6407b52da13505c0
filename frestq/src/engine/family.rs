//! What holds a tree together: turns that come, ends that go up, calls off that go down.

use jiff::Timestamp;
use serde::Serialize;

use super::{
    event::{Answer, Received},
    performer, sequential, simple, synchronized,
    world::{Consequence, MissingRow, StepContext, TaskEvent},
};
use crate::model::{
    Json, NewTask, OnFailure, Role, RunPhase, Status, TaskId, TaskKind, TaskState, error::TaskError,
};

/// Stores a tree, its root first, and starts it.
pub(super) fn plant(turn: &mut StepContext<'_>, tree: &[NewTask]) -> Result<Answer, MissingRow> {
    if tree
        .first()
        .is_some_and(|root| turn.is_there(&root.state.id))
    {
        // An earlier transaction with this very event came through, though its answer was lost.
        return Ok(Answer::Accepted);
    }
    if let Some(key) = tree.first().and_then(|root| root.unique_key.as_deref())
        && let Some(open) = turn.keeper(key)?
    {
        return Ok(Answer::Known(open));
    }
    for task in tree {
        turn.create(task.clone(), TaskEvent::Created);
    }
    if let Some(root) = tree.first() {
        activate(turn, root.state.id.clone());
    }
    Ok(Answer::Accepted)
}

/// The task's turn has come.
pub(super) fn activate(turn: &mut StepContext<'_>, id: TaskId) {
    turn.consequences.push_back(Consequence::Activate(id));
}

/// Works off everything that the event entails for other tasks.
pub(super) fn conclude(turn: &mut StepContext<'_>, now: Timestamp) -> Result<(), MissingRow> {
    while let Some(next) = turn.consequences.pop_front() {
        match next {
            Consequence::Activate(id) => start(turn, &id, now)?,
            Consequence::Ended(id) => ended(turn, &id, now)?,
            Consequence::Reserved(id) => synchronized::reserved_here(turn, &id, now)?,
            Consequence::Cancel(id) => {
                let why = TaskError::new(
                    TaskError::CANCELLED,
                    "the tree that it is a part of has ended",
                );
                if let Some(task) = open(turn, &id)? {
                    stop(turn, task, Status::Cancelled, &why, now)?;
                }
            }
        }
    }
    Ok(())
}

/// The task, unless it has ended.
pub(super) fn open(turn: &StepContext<'_>, id: &TaskId) -> Result<Option<TaskState>, MissingRow> {
    Ok(turn
        .task(id)?
        .filter(|task| !task.status.is_terminal())
        .cloned())
}

fn start(turn: &mut StepContext<'_>, id: &TaskId, now: Timestamp) -> Result<(), MissingRow> {
    let Some(mut task) = turn.task(id)?.cloned() else {
        return Ok(());
    };
    if task.status.is_terminal() {
        // It has ended before its turn, and its parent learns of that now.
        if let Some(parent) = &task.parent
            && turn.task(parent)?.is_some_and(in_order)
        {
            turn.consequences.push_back(Consequence::Ended(task.id));
        }
        return Ok(());
    }
    if task.kind == TaskKind::Simple {
        simple::send(turn, &task);
        return Ok(());
    }
    if task.kind == TaskKind::Synchronized && task.open_children > 0 {
        return synchronized::start_round(turn, task, now);
    }
    if !task.queue.is_empty() && task.kind != TaskKind::Synchronized {
        task.moment = Some(RunPhase::Execute);
        turn.change_quietly(task, None);
        return Ok(());
    }
    task.status = Status::Executing;
    task.modified_at = now;
    let (parent, kind, empty) = (task.id.clone(), task.kind, task.open_children == 0);
    turn.change(task.clone(), None, TaskEvent::Changed);
    match kind {
        TaskKind::External => {}
        _ if empty => finish(turn, task, Status::Finished, None, now),
        TaskKind::Parallel => {
            for child in turn.children(&parent)? {
                activate(turn, child);
            }
        }
        _ => first_child(turn, &parent)?,
    }
    Ok(())
}

/// The first of a sequence starts.
pub(super) fn first_child(turn: &mut StepContext<'_>, parent: &TaskId) -> Result<(), MissingRow> {
    if let Some(child) = turn.child(parent, 0)? {
        activate(turn, child);
    }
    Ok(())
}

/// Whether the children of a task follow one another.
fn in_order(parent: &TaskState) -> bool {
    !matches!(parent.kind, TaskKind::Parallel | TaskKind::Synchronized)
}

/// A task has ended, so its parent goes on, or ends too.
fn ended(turn: &mut StepContext<'_>, id: &TaskId, now: Timestamp) -> Result<(), MissingRow> {
    let Some(child) = turn.task(id)?.cloned() else {
        return Ok(());
    };
    let Some(parent) = &child.parent else {
        return Ok(());
    };
    let Some(mut parent) = open(turn, parent)? else {
        return Ok(());
    };
    let failed = child.status != Status::Finished;
    let its_turn = parent.status == Status::Executing && parent.place == child.order;
    let ends_parent = failed && parent.on_failure == OnFailure::End;
    if in_order(&parent) && !its_turn && !ends_parent {
        return Ok(());
    }
    if failed && is_over(&parent, now) {
        // Its date has come too; nobody is asked what becomes of that.
        return stop(turn, parent, Status::Expired, &expired(), now);
    }
    parent.open_children -= 1;
    if failed && parent.on_failure == OnFailure::WaitForAll {
        parent.failures += 1;
    } else if failed {
        let error = turn.error_of(id)?;
        return sequential::child_failed(turn, parent, &error, now);
    }
    if parent.kind == TaskKind::Synchronized && parent.status == Status::Syncing {
        return synchronized::ended_early(turn, parent, &child, now);
    }
    go_on(turn, parent, now)
}

/// After a child: the next one, or the end.
pub(super) fn go_on(
    turn: &mut StepContext<'_>,
    mut parent: TaskState,
    now: Timestamp,
) -> Result<(), MissingRow> {
    if parent.open_children > 0 {
        if in_order(&parent) {
            parent.place += 1;
            if let Some(next) = turn.child(&parent.id, parent.place)? {
                activate(turn, next);
            }
        }
        turn.change_quietly(parent, None);
        return Ok(());
    }
    if parent.kind == TaskKind::Parallel && parent.failures > 0 {
        let error = simple::error_output(&all_failures(turn, &parent)?);
        finish(turn, parent, Status::Error, Some(error), now);
    } else {
        finish(turn, parent, Status::Finished, None, now);
    }
    Ok(())
}

/// How many failures of a group its error tells, and in how many bytes: enough to see what they have in
/// common, and small enough to travel, even through many groups.
const TOLD: usize = 100;
const TOLD_BYTES: usize = 64 * 1024;

/// What a group fails with that has waited for all.
fn all_failures(turn: &StepContext<'_>, group: &TaskState) -> Result<TaskError, MissingRow> {
    #[derive(Serialize)]
    struct Failure<'a> {
        id: &'a TaskId,
        queue: &'a str,
        action: &'a str,
        error: TaskError,
    }
    let mut failed = Vec::new();
    for child in turn.children(&group.id)? {
        let child = turn.task(&child)?.cloned();
        failed.extend(child.filter(|child| child.status != Status::Finished));
    }
    let first = &failed[..failed.len().min(TOLD)];
    let errors = turn.errors_of(first.iter().map(|child| &child.id))?;
    let mut room = TOLD_BYTES;
    let mut failures = Vec::new();
    for (child, error) in first.iter().zip(errors) {
        let Some(rest) = room.checked_sub(simple::error_output(&error).get().len()) else {
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
        (all, told) if all > told => {
            format!("{all} of its tasks failed, of which the first {told} are told")
        }
        (all, _) => format!("{all} of its tasks failed"),
    };
    Ok(TaskError::new(TaskError::CHILDREN_FAILED, why).with_data(&failures))
}

/// Ends a task whose children have all ended, and tells its sender and its parent. Without an
/// `output` it keeps the one it has.
pub(super) fn finish(
    turn: &mut StepContext<'_>,
    task: TaskState,
    status: Status,
    output: Option<Json>,
    now: Timestamp,
) {
    finish_as(turn, task, status, output, TaskEvent::Changed, now);
}

/// Like [`finish`], with its own line in the story.
pub(super) fn finish_as(
    turn: &mut StepContext<'_>,
    mut task: TaskState,
    status: Status,
    output: Option<Json>,
    note: TaskEvent,
    now: Timestamp,
) {
    performer::let_go(&mut task);
    task.status = status;
    task.wake_at = None;
    task.run_at = None;
    task.modified_at = now;
    if task.role == Role::Received && task.kind != TaskKind::Message {
        task.rev += 1;
        turn.send(sequential::update_message(&task, output.as_ref()));
    }
    if task.parent.is_some() {
        turn.consequences
            .push_back(Consequence::Ended(task.id.clone()));
    }
    turn.change(task, output, note);
}

/// Ends a task whose children may still be open, and them with it.
pub(super) fn stop(
    turn: &mut StepContext<'_>,
    task: TaskState,
    status: Status,
    error: &TaskError,
    now: Timestamp,
) -> Result<(), MissingRow> {
    if task.open_children > 0 {
        for child in turn.children(&task.id)? {
            turn.consequences.push_back(Consequence::Cancel(child));
        }
    }
    if task.owner.is_some() {
        turn.cancel(task.id.clone());
    }
    // What has not arrived is called off if it turns out to (`simple::delivery`).
    let arrived = task.role == Role::Sent && task.status != Status::Created;
    if arrived && matches!(status, Status::Cancelled | Status::Expired) {
        turn.send(simple::cancel_message(&task));
    }
    finish(turn, task, status, Some(simple::error_output(error)), now);
    Ok(())
}

/// The expiration date has come: whatever is not done by now is worthless.
pub(super) fn expire(
    turn: &mut StepContext<'_>,
    id: &TaskId,
    now: Timestamp,
) -> Result<Answer, MissingRow> {
    let Some(task) = open(turn, id)? else {
        return Ok(Answer::Ignored);
    };
    if !is_over(&task, now) {
        return Ok(Answer::Ignored);
    }
    stop(turn, task, Status::Expired, &expired(), now)?;
    Ok(Answer::Accepted)
}

fn is_over(task: &TaskState, now: Timestamp) -> bool {
    task.expires_at.is_some_and(|at| at <= now)
}

fn expired() -> TaskError {
    TaskError::new("expired", "its expiration date came before its end")
}

/// Our own code, or the operator, calls a task off.
pub(super) fn cancel(
    turn: &mut StepContext<'_>,
    id: &TaskId,
    why: &str,
    now: Timestamp,
) -> Result<Answer, MissingRow> {
    let Some(task) = turn.task(id)?.cloned() else {
        return Ok(Answer::UnknownTask);
    };
    if task.status.is_terminal() {
        let why = format!("task {id} has ended before, as {}", task.status);
        return Ok(Answer::Conflict(why));
    }
    let error = TaskError::new(TaskError::CANCELLED, why);
    stop(turn, task, Status::Cancelled, &error, now)?;
    Ok(Answer::Accepted)
}

/// The sender of a task calls it off.
pub(super) fn call_off_by_sender(
    turn: &mut StepContext<'_>,
    received: &Received,
    id: &TaskId,
    now: Timestamp,
) -> Result<Answer, MissingRow> {
    let from = received.row.key.peer;
    let mine = turn
        .task(id)?
        .filter(|task| task.role == Role::Received && task.peer == from);
    let Some(task) = mine.cloned() else {
        return Ok(Answer::UnknownTask);
    };
    if !task.status.is_terminal() {
        let error = TaskError::new(TaskError::CANCELLED, "its sender called it off");
        stop(turn, task, Status::Cancelled, &error, now)?;
    }
    Ok(Answer::Accepted)
}
