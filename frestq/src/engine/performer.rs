//! A task of a synchronized group, where it runs: it reserves and holds what it has reserved, until it
//! is told to start or to give it back.
//!
//! What it holds is its row: it keeps its owner, and with it its slot, while nothing runs for it.

use jiff::Timestamp;

use super::{
    event::{Answer, Done, Received},
    family::finish,
    sequential,
    simple::error_output,
    synchronized::{end_round, group_of, internal},
    world::{Consequence, MissingRow, StepContext, TaskEvent},
};
use crate::model::{
    Data, Json, NewTask, NodeId, Outgoing, Role, RunPhase, Status, TaskId, TaskKind, TaskState,
    error::TaskError, null,
};

/// A peer asks for a reservation, for a task that is new to us or in a new round.
pub(super) fn asked(
    turn: &mut StepContext<'_>,
    task: &NewTask,
    now: Timestamp,
) -> Result<Answer, MissingRow> {
    let asks = &task.state;
    let Some(known) = turn.task(&asks.id)?.cloned() else {
        let mut new = task.clone();
        new.state.status = Status::Syncing;
        new.state.moment = Some(RunPhase::Reserve);
        turn.create(new, TaskEvent::Received);
        return Ok(Answer::Accepted);
    };
    let same = known.role == Role::Received
        && known.peer == asks.peer
        && known.queue == asks.queue
        && known.action == asks.action;
    if !same {
        return Ok(Answer::Conflict(format!(
            "task_id {} was used before; a new task needs a new id",
            asks.id
        )));
    }
    if asks.round > known.round && !known.status.is_terminal() {
        ask(turn, known, asks.round, now);
    }
    Ok(Answer::Accepted)
}

/// A task that runs here is to reserve for a round.
pub(super) fn ask(turn: &mut StepContext<'_>, mut task: TaskState, round: i64, now: Timestamp) {
    task.round = round;
    task.modified_at = now;
    match (task.status, task.moment) {
        (Status::Confirmed | Status::Executing, _) => return,
        // What it holds from an earlier round does for this one too.
        (Status::Reserved, None) => {
            task.wake_at = now.checked_add(turn.reservation_timeout).ok();
            confirm(turn, &task, None);
        }
        (_, Some(_)) => task.status = Status::Syncing,
        (_, None) => {
            task.status = Status::Syncing;
            task.moment = Some(RunPhase::Reserve);
        }
    }
    turn.change_quietly(task, None);
}

/// The handler's `reserve` has ended. `task`: without its moment and owner.
pub(super) fn reserved(
    turn: &mut StepContext<'_>,
    mut task: TaskState,
    owner: Option<NodeId>,
    outcome: &Result<Box<Done>, TaskError>,
    now: Timestamp,
) -> Result<(), MissingRow> {
    match outcome {
        Ok(done) => {
            turn.set_reservation(&task.id, done.output.clone());
            task.owner = owner;
            task.reserved = 1;
            match task.status {
                Status::Syncing => {
                    task.status = Status::Reserved;
                    task.wake_at = now.checked_add(turn.reservation_timeout).ok();
                    confirm(turn, &task, Some(&done.output));
                    turn.change(task, None, TaskEvent::Changed);
                }
                // It was told to start meanwhile.
                Status::Confirmed => resume(turn, task, RunPhase::Execute),
                // The round was over meanwhile.
                _ => resume(turn, task, RunPhase::CancelReservation),
            }
            Ok(())
        }
        Err(_) if task.status == Status::Confirmed => {
            forget_reservation(turn, &task);
            task.moment = Some(RunPhase::Execute);
            turn.change_quietly(task, None);
            Ok(())
        }
        // An original director waits for nothing but the reservation or the end.
        Err(error) if task.role == Role::Received && task.round == 0 => {
            finish(turn, task, Status::Error, Some(error_output(error)), now);
            Ok(())
        }
        Err(_) => {
            let asked = task.status == Status::Syncing;
            task.status = Status::Created;
            forget_round(&mut task);
            turn.change_quietly(task.clone(), None);
            if asked {
                tell_refusal(turn, &task, now)?;
            }
            Ok(())
        }
    }
}

/// The handler's `cancel_reservation` has ended, well or not.
pub(super) fn given_back(turn: &mut StepContext<'_>, mut task: TaskState) {
    task.reserved = 0;
    if task.status == Status::Confirmed {
        forget_reservation(turn, &task);
    }
    if !task.status.is_terminal() {
        task.moment = match task.status {
            Status::Syncing => Some(RunPhase::Reserve),
            Status::Confirmed => Some(RunPhase::Execute),
            _ => None,
        };
    }
    turn.change_quietly(task, None);
}

/// The handler's `cancel_reservation` does not come to an end.
pub(super) fn kept(turn: &mut StepContext<'_>, mut task: TaskState) {
    task.moment = None;
    turn.change(task.clone(), None, TaskEvent::Kept);
    given_back(turn, task);
}

/// The time of a reservation is over, or the sender wants a report.
pub(super) fn wake(
    turn: &mut StepContext<'_>,
    mut task: TaskState,
    now: Timestamp,
) -> Result<(), MissingRow> {
    let reserved = task.status == Status::Reserved;
    let reports = task.role == Role::Received && task.kind != TaskKind::Message;
    if !reserved && reports && !task.status.is_terminal() {
        // Its sender wanted to hear of it about now (`pingback_date`).
        task.rev += 1;
        turn.send(sequential::update_message(&task, None));
        turn.change_quietly(task.clone(), None);
    }
    if reserved && task.role == Role::Received && task.round == 0 {
        // An original director can't be asked for another round, and was told how long it had.
        let error = TaskError::new("expired", "what was reserved for it was not wanted in time");
        finish(turn, task, Status::Error, Some(error_output(&error)), now);
    } else if reserved {
        release(turn, task.clone(), now);
        tell_refusal(turn, &task, now)?;
    }
    Ok(())
}

/// A task ends. What it holds is given back yet: by a run that is on for that already, by the handler
/// that has started on it, or by a run to come.
pub(super) fn let_go(task: &mut TaskState) {
    match task.moment.filter(|_| task.owner.is_some()) {
        Some(RunPhase::CancelReservation) => return,
        Some(RunPhase::Execute) => task.reserved = 0,
        _ => {}
    }
    let holds = task.role != Role::Sent && task.kind != TaskKind::Synchronized && task.reserved > 0;
    task.moment = holds.then_some(RunPhase::CancelReservation);
    task.owner = None;
}

/// Gives back what a task holds, or is about to.
pub(super) fn release(turn: &mut StepContext<'_>, mut task: TaskState, now: Timestamp) {
    let holds = task.status == Status::Reserved;
    if !holds && task.status != Status::Syncing {
        return;
    }
    task.status = Status::Created;
    task.wake_at = None;
    task.modified_at = now;
    if holds {
        resume(turn, task, RunPhase::CancelReservation);
        return;
    }
    if task.moment == Some(RunPhase::Reserve) && task.owner.is_none() {
        task.moment = None;
    }
    forget_round(&mut task);
    turn.change_quietly(task, None);
}

/// A task of our own that has not reserved in a round is not to be taken for one that has.
fn forget_round(task: &mut TaskState) {
    if task.role == Role::Local {
        task.round = 0;
    }
}

/// Goes on in the slot that the task holds, or waits for one if it holds none any more.
fn resume(turn: &mut StepContext<'_>, mut task: TaskState, moment: RunPhase) {
    task.moment = Some(moment);
    if task.owner.is_some() {
        turn.resume(task.id.clone());
    }
    turn.change_quietly(task, None);
}

/// The director is told that a task has reserved.
fn confirm(turn: &mut StepContext<'_>, task: &TaskState, reservation: Option<&Json>) {
    if task.role == Role::Local {
        turn.consequences
            .push_back(Consequence::Reserved(task.id.clone()));
        return;
    }
    let seconds = turn.reservation_timeout.as_secs().max(1);
    turn.send(Outgoing {
        action: "frestq.confirm_task_reservation".into(),
        data: Data::Confirm {
            reservation: reservation.cloned(),
            seconds,
        },
        ..internal(task)
    });
}

/// The director is told that a task can't reserve, or does not hold its reservation any more.
fn tell_refusal(
    turn: &mut StepContext<'_>,
    task: &TaskState,
    now: Timestamp,
) -> Result<(), MissingRow> {
    if task.role == Role::Received {
        turn.send(Outgoing {
            action: "frestq.refuse_reservation".into(),
            needs_extensions: true,
            ..internal(task)
        });
        return Ok(());
    }
    let Some(group) = group_of(turn, task)? else {
        return Ok(());
    };
    end_round(turn, group, now)
}

/// The task is to start, in the slot that it holds if it still does.
pub(super) fn execute(turn: &mut StepContext<'_>, mut task: TaskState) {
    // Until now it was the reservation that was watched over.
    task.wake_at = task.report_at.filter(|_| task.role == Role::Received);
    let running = task.moment.is_some() && task.owner.is_some();
    task.status = Status::Confirmed;
    if running {
        // Once its `reserve` or `cancel_reservation` has ended.
        turn.change_quietly(task, None);
    } else {
        if task.reserved == 0 {
            forget_reservation(turn, &task);
        }
        resume(turn, task, RunPhase::Execute);
    }
}

/// The task starts without what it has given back, which may be somebody else's by now. Until then its
/// director may still look at it.
fn forget_reservation(turn: &mut StepContext<'_>, task: &TaskState) {
    turn.set_reservation(&task.id, null());
}

/// The director says to start. The first time counts: an original one says it two or three times.
pub(super) fn told_to_start(
    turn: &mut StepContext<'_>,
    received: &Received,
    id: &TaskId,
    input: &Json,
) -> Result<Answer, MissingRow> {
    let Some(task) = received_from(turn, received, id)? else {
        return Ok(Answer::UnknownTask);
    };
    let starts = matches!(
        task.status,
        Status::Created | Status::Syncing | Status::Reserved
    ) && task.moment != Some(RunPhase::Execute);
    if starts {
        turn.set_input(id, input.clone());
        execute(turn, task);
    }
    Ok(Answer::Accepted)
}

/// The director ends a round.
pub(super) fn told_to_release(
    turn: &mut StepContext<'_>,
    received: &Received,
    id: &TaskId,
    round: Option<i64>,
    now: Timestamp,
) -> Result<Answer, MissingRow> {
    let Some(task) = received_from(turn, received, id)? else {
        return Ok(Answer::UnknownTask);
    };
    if round.is_none_or(|round| round == task.round) {
        release(turn, task, now);
    }
    Ok(Answer::Accepted)
}

/// The task that the sender of a message has given us.
fn received_from(
    turn: &StepContext<'_>,
    received: &Received,
    id: &TaskId,
) -> Result<Option<TaskState>, MissingRow> {
    let from = received.row.key.peer;
    let task = turn.task(id)?;
    let mine = task.filter(|task| task.role == Role::Received && task.peer == from);
    Ok(mine.cloned())
}
