//! A task that runs here: received or our own, claimed, completed, cut off, expired.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    event::Answer,
    simple::error_output,
    world::{Missing, Note, Turn},
};
use crate::{
    error::TaskError,
    model::{
        ActionOptions, Json, NewTask, NodeId, Outgoing, Role, Status, TaskId, TaskKind, TaskState,
        to_json,
    },
    retry,
};

/// A peer hands us a task. Its id must be new: a finished task is not run again under another
/// message id, and nobody takes over somebody else's.
pub(super) fn receive(turn: &mut Turn<'_>, task: &NewTask) -> Result<Answer, Missing> {
    if turn.task(&task.state.id)?.is_some() {
        return Ok(Answer::Conflict(format!(
            "task_id {} was used before; a new task needs a new id",
            task.state.id
        )));
    }
    turn.create(task.clone(), Note::Received);
    Ok(Answer::Accepted)
}

/// Whether the task waits for nothing but a slot. One that came too late waits for its end.
pub(crate) fn runs_now(task: &TaskState, now: Timestamp) -> bool {
    task.status == Status::Created
        && task.role != Role::Sent
        && task.run_at.is_none_or(|at| at <= now)
        && task.expires_at.is_none_or(|at| at > now)
}

/// Starts a run: the next attempt, under a new epoch.
pub(crate) fn claim(task: &mut TaskState, node: NodeId, now: Timestamp) {
    task.status = Status::Executing;
    task.attempt += 1;
    task.epoch += 1;
    task.owner = Some(node);
    task.run_at = None;
    task.modified_at = now;
}

/// Whether a completion counts: the task still runs under the claim that it was started with.
pub(crate) fn accepts_completion(task: &TaskState, epoch: i64) -> bool {
    task.status == Status::Executing && task.epoch == epoch && task.owner.is_some()
}

/// A handler's run ended.
pub(super) fn completed(
    turn: &mut Turn<'_>,
    id: &TaskId,
    epoch: i64,
    outcome: &Result<Json, TaskError>,
    options: &ActionOptions,
    now: Timestamp,
) -> Result<Answer, Missing> {
    let Some(task) = turn
        .task(id)?
        .filter(|task| accepts_completion(task, epoch))
        .cloned()
    else {
        return Ok(Answer::Ignored);
    };
    match outcome {
        Ok(output) => end(turn, task, Status::Finished, output.clone(), now),
        Err(_) if task.failures < i64::from(options.retries) => {
            let wait = retry::schedule(task.failures + 1);
            again(
                turn,
                TaskState {
                    failures: task.failures + 1,
                    ..task
                },
                wait,
                now,
            );
        }
        Err(error) => end(turn, task, Status::Error, error_output(error), now),
    }
    Ok(Answer::Accepted)
}

/// The process that ran the task is gone, or released it.
pub(super) fn cut_off(
    turn: &mut Turn<'_>,
    id: &TaskId,
    owner: NodeId,
    options: &ActionOptions,
    now: Timestamp,
) -> Result<Answer, Missing> {
    let Some(task) = turn
        .task(id)?
        .filter(|t| t.status == Status::Executing && t.owner == Some(owner))
        .cloned()
    else {
        return Ok(Answer::Ignored);
    };
    let runs = task.attempt - task.failures;
    if options.at_most_once {
        let error = TaskError::new(
            TaskError::INTERRUPTED,
            "its run was cut off, and the action may run at most once: whether it had its effect is for an operator to find out",
        );
        end(turn, task, Status::Error, error_output(&error), now);
    } else if runs >= i64::from(options.max_attempts) {
        let error = TaskError::new(
            TaskError::INTERRUPTED,
            format!("its run was cut off {runs} times, the most allowed"),
        );
        end(turn, task, Status::Error, error_output(&error), now);
    } else {
        again(turn, task, Duration::ZERO, now);
    }
    Ok(Answer::Accepted)
}

/// The expiration date has come: whatever is not done by now is worthless.
pub(super) fn expire(turn: &mut Turn<'_>, id: &TaskId, now: Timestamp) -> Result<Answer, Missing> {
    let Some(task) = turn.task(id)?.filter(|t| !t.status.is_terminal()).cloned() else {
        return Ok(Answer::Ignored);
    };
    if task.expires_at.is_none_or(|at| at > now) {
        return Ok(Answer::Ignored);
    }
    let error = TaskError::new("expired", "its expiration date came before its end");
    end(turn, task, Status::Expired, error_output(&error), now);
    Ok(Answer::Accepted)
}

/// Back to the queue for another run.
fn again(turn: &mut Turn<'_>, mut task: TaskState, wait: Duration, now: Timestamp) {
    task.status = Status::Created;
    task.owner = None;
    task.run_at = (!wait.is_zero()).then(|| now.checked_add(wait).unwrap_or(Timestamp::MAX));
    task.modified_at = now;
    turn.change(task, None, Note::Again);
}

/// Ends a task, whatever its role, and tells its sender.
pub(super) fn end(
    turn: &mut Turn<'_>,
    mut task: TaskState,
    status: Status,
    output: Json,
    now: Timestamp,
) {
    task.status = status;
    task.owner = None;
    task.run_at = None;
    task.modified_at = now;
    if task.role == Role::Received && task.kind != TaskKind::Message {
        task.rev += 1;
        turn.send(update_message(&task, &output));
    }
    turn.change(task, Some(output), Note::Changed);
}

/// `frestq.update_task` (`restqp.md`, *Internal actions*).
pub(super) fn update_message(task: &TaskState, output: &Json) -> Outgoing {
    #[derive(serde::Serialize)]
    struct UpdateData<'a> {
        output_data: &'a Json,
        status: Status,
    }
    let data = to_json(&UpdateData {
        output_data: output,
        status: task.status.on_the_wire(),
    });
    Outgoing {
        peer: task.peer,
        queue: "internal.frestq".into(),
        action: "frestq.update_task".into(),
        task: task.id.clone(),
        // Raw JSON and an enum always serialize; `null` would be refused by the peer, not lost.
        data: data.unwrap_or_else(|_| crate::model::null()),
        rev: Some(task.rev),
        info: None,
        pingback_at: None,
        expires_at: None,
        not_before: None,
        carries_task: false,
    }
}
