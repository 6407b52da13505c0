//! A task of a synchronized group, where it runs: it reserves, and holds what it has reserved
//! until the director starts it or ends the round.
//!
//! Its row is what it holds: it keeps its owner, and with it its slot, while nothing runs for it.

use jiff::Timestamp;

use super::{
    batch_state::{MissingRow, TaskEvent},
    ending::{fail, open},
    event::{Answer, Delivery, Done, Received},
    messages, ownership,
    run::EndedRun,
    step_context::{Consequence, StepContext},
};
use crate::model::{
    Json, NewTask, Role, RoundMark, RunPhase, Status, TaskId, TaskKind, TaskState,
    error::TaskError, null,
};

/// A peer asks for a reservation, for a task that is new to us or in a new round.
pub(super) fn asked(
    ctx: &mut StepContext<'_>,
    task: &NewTask,
    now: Timestamp,
) -> Result<Answer, MissingRow> {
    let asks = &task.state;
    let Some(known) = ctx.task(&asks.id)?.cloned() else {
        let mut new = task.clone();
        new.state.status = Status::Syncing;
        new.state.moment = Some(RunPhase::Reserve);
        ctx.create(new, TaskEvent::Received);
        return Ok(Answer::Accepted);
    };
    let same = known.role == Role::Received
        && known.peer == asks.peer
        && known.queue == asks.queue
        && known.action == asks.action;
    if !same {
        return Ok(Answer::used_before(&asks.id));
    }
    if asks.round > known.round && !known.status.is_terminal() {
        ask(ctx, known, asks.round, now);
    }
    Ok(Answer::Accepted)
}

/// Our own director asks for a reservation.
pub(super) fn reserve(
    ctx: &mut StepContext<'_>,
    id: &TaskId,
    round: RoundMark,
    now: Timestamp,
) -> Result<(), MissingRow> {
    if let Some(task) = open(ctx, id)? {
        ask(ctx, task, round, now);
    }
    Ok(())
}

/// The task is to reserve for a round.
fn ask(ctx: &mut StepContext<'_>, mut task: TaskState, round: RoundMark, now: Timestamp) {
    task.round = round;
    task.modified_at = now;
    match (task.status, task.moment) {
        (Status::Confirmed | Status::Executing, _) => return,
        // What it holds from an earlier round counts for this one too.
        (Status::Reserved, None) => {
            task.wake_at = now.checked_add(ctx.reservation_timeout).ok();
            confirm(ctx, &task, None);
        }
        (_, Some(_)) => task.status = Status::Syncing,
        (_, None) => {
            task.status = Status::Syncing;
            task.moment = Some(RunPhase::Reserve);
        }
    }
    ctx.change_quietly(task, None);
}

/// The run of `reserve` has ended.
pub(super) fn reserved(
    ctx: &mut StepContext<'_>,
    run: EndedRun,
    outcome: &Result<Box<Done>, TaskError>,
    now: Timestamp,
) {
    let EndedRun {
        mut task, owner, ..
    } = run;
    match outcome {
        Ok(done) => {
            ctx.set_reservation(&task.id, done.output.clone());
            task.owner = Some(owner);
            task.holds_reservation = true;
            match task.status {
                Status::Syncing => {
                    task.status = Status::Reserved;
                    task.wake_at = now.checked_add(ctx.reservation_timeout).ok();
                    confirm(ctx, &task, Some(&done.output));
                    ctx.change(task, None, TaskEvent::Changed);
                }
                // The director started it meanwhile.
                Status::Confirmed => resume(ctx, task, RunPhase::Execute),
                // The round ended meanwhile.
                _ => resume(ctx, task, RunPhase::CancelReservation),
            }
        }
        Err(_) if task.status == Status::Confirmed => {
            forget_reservation(ctx, &task);
            task.moment = Some(RunPhase::Execute);
            ctx.change_quietly(task, None);
        }
        // An original director waits for nothing but the reservation or the end.
        Err(error) if has_original_director(&task) => fail(ctx, task, error, now),
        Err(_) => {
            let asked = task.status == Status::Syncing;
            task.status = Status::Created;
            forget_round(&mut task);
            ctx.change_quietly(task.clone(), None);
            if asked {
                refuse(ctx, &task);
            }
        }
    }
}

/// Original directors know no rounds.
fn has_original_director(task: &TaskState) -> bool {
    task.role == Role::Received && task.round == RoundMark::None
}

/// The run of `cancel_reservation` has ended, in success or failure.
pub(super) fn released(ctx: &mut StepContext<'_>, mut task: TaskState) {
    task.holds_reservation = false;
    if task.status == Status::Confirmed {
        forget_reservation(ctx, &task);
    }
    if !task.status.is_terminal() {
        task.moment = match task.status {
            Status::Syncing => Some(RunPhase::Reserve),
            Status::Confirmed => Some(RunPhase::Execute),
            _ => None,
        };
    }
    ctx.change_quietly(task, None);
}

/// The run of `cancel_reservation` is interrupted too often.
pub(super) fn not_released(ctx: &mut StepContext<'_>, mut task: TaskState) {
    task.moment = None;
    ctx.change(task.clone(), None, TaskEvent::Kept);
    released(ctx, task);
}

/// The time of a reservation is over, or the sender wants a report.
pub(super) fn wake(ctx: &mut StepContext<'_>, mut task: TaskState, now: Timestamp) {
    let reserved = task.status == Status::Reserved;
    let reports = task.role == Role::Received && task.kind != TaskKind::Message;
    if !reserved && reports && !task.status.is_terminal() {
        // Its sender asked for a report about now (`pingback_date`).
        task.rev += 1;
        ctx.send(messages::update(&task, None));
        ctx.change_quietly(task.clone(), None);
    }
    if reserved && has_original_director(&task) {
        // It can't be asked to start another round, and knows how long the reservation stood.
        let error = TaskError::new(
            TaskError::EXPIRED,
            "it was not started before its reservation ended",
        );
        fail(ctx, task, &error, now);
    } else if reserved {
        release(ctx, task.clone(), now);
        refuse(ctx, &task);
    }
}

/// Our own director ends a round.
pub(super) fn round_ended(
    ctx: &mut StepContext<'_>,
    id: &TaskId,
    now: Timestamp,
) -> Result<(), MissingRow> {
    if let Some(task) = open(ctx, id)? {
        release(ctx, task, now);
    }
    Ok(())
}

/// Releases what a task holds, or is about to.
fn release(ctx: &mut StepContext<'_>, mut task: TaskState, now: Timestamp) {
    let holds = task.status == Status::Reserved;
    if !holds && task.status != Status::Syncing {
        return;
    }
    task.status = Status::Created;
    task.wake_at = None;
    task.modified_at = now;
    if holds {
        resume(ctx, task, RunPhase::CancelReservation);
        return;
    }
    if task.moment == Some(RunPhase::Reserve) && task.owner.is_none() {
        task.moment = None;
    }
    forget_round(&mut task);
    ctx.change_quietly(task, None);
}

/// A task of our own that has not reserved in a round must not pass for one that has.
fn forget_round(task: &mut TaskState) {
    if task.role == Role::Local {
        task.round = RoundMark::None;
    }
}

/// Goes on in the slot that the task holds. If it holds none any more, it waits for one.
fn resume(ctx: &mut StepContext<'_>, mut task: TaskState, moment: RunPhase) {
    task.moment = Some(moment);
    if task.owner.is_some() {
        ctx.resume(task.id.clone());
    }
    ctx.change_quietly(task, None);
}

/// The director learns that a task has reserved.
fn confirm(ctx: &mut StepContext<'_>, task: &TaskState, reservation: Option<&Json>) {
    if task.role == Role::Local {
        ctx.entail(Consequence::Reserved(task.id.clone()));
    } else {
        let seconds = ctx.reservation_timeout.as_secs().max(1);
        ctx.send(messages::confirm(task, reservation, seconds));
    }
}

/// The director learns that a task can't reserve, or has lost its reservation.
fn refuse(ctx: &mut StepContext<'_>, task: &TaskState) {
    if task.role == Role::Received {
        ctx.send(messages::refuse(task));
    } else {
        ctx.entail_next(Consequence::NotReserved(task.id.clone()));
    }
}

/// Our own director starts the task.
pub(super) fn execute(ctx: &mut StepContext<'_>, id: &TaskId) -> Result<(), MissingRow> {
    if let Some(task) = open(ctx, id)? {
        start(ctx, task);
    }
    Ok(())
}

/// The task starts, in the slot that it holds if it still does.
fn start(ctx: &mut StepContext<'_>, mut task: TaskState) {
    // Until now this was the deadline of the reservation.
    task.wake_at = task.report_at.filter(|_| task.role == Role::Received);
    let running = task.moment.is_some() && task.owner.is_some();
    task.status = Status::Confirmed;
    if running {
        // Once its `reserve` or `cancel_reservation` has ended.
        ctx.change_quietly(task, None);
    } else {
        if !task.holds_reservation {
            forget_reservation(ctx, &task);
        }
        resume(ctx, task, RunPhase::Execute);
    }
}

/// The task starts without what it has released, which may belong to another task by now. Until
/// then its director may still look at it.
fn forget_reservation(ctx: &mut StepContext<'_>, task: &TaskState) {
    ctx.set_reservation(&task.id, null());
}

/// A director elsewhere starts the task. An original one says so two or three times; the first
/// time counts.
pub(super) fn told_to_start(
    ctx: &mut StepContext<'_>,
    received: &Received,
    id: &TaskId,
    input: &Json,
) -> Result<Answer, MissingRow> {
    let Some(task) = ownership::given_by_sender(ctx, received, id)? else {
        return Ok(Answer::UnknownTask);
    };
    let waits = matches!(
        task.status,
        Status::Created | Status::Syncing | Status::Reserved
    );
    if waits && task.moment != Some(RunPhase::Execute) {
        ctx.set_input(id, input.clone());
        start(ctx, task);
    }
    Ok(Answer::Accepted)
}

/// A director elsewhere ends a round.
pub(super) fn told_to_release(
    ctx: &mut StepContext<'_>,
    received: &Received,
    id: &TaskId,
    round: Option<i64>,
    now: Timestamp,
) -> Result<Answer, MissingRow> {
    let Some(task) = ownership::given_by_sender(ctx, received, id)? else {
        return Ok(Answer::UnknownTask);
    };
    if task.round.matches(round) {
        release(ctx, task, now);
    }
    Ok(Answer::Accepted)
}

/// The director refuses the confirmation: it can't take what the task has reserved, so it will
/// never start it.
pub(super) fn confirmation_refused(
    ctx: &mut StepContext<'_>,
    delivery: &Delivery,
    status: u16,
    why: &str,
    now: Timestamp,
) -> Result<(), MissingRow> {
    let reserved =
        |task: &&TaskState| task.role == Role::Received && task.status == Status::Reserved;
    let Some(task) = ctx.task(&delivery.message.task)?.filter(reserved).cloned() else {
        return Ok(());
    };
    let why = format!("the peer that asked for a reservation did not accept it: {status}: {why}");
    let error = TaskError::new(TaskError::UNDELIVERABLE, why);
    fail(ctx, task, &error, now);
    Ok(())
}
