//! Decides one event: hands it to the file of its subject, and with it everything that it entails.

use jiff::Timestamp;

use super::{
    batch_state::MissingRow,
    ending,
    event::{Answer, Delivery, DeliveryOutcome, Done, Event, MessageKind, Received},
    external, local_task, outbound_task, participant, round, run,
    step_context::{Consequence, StepContext},
    synchronized, tree,
};
use crate::{
    model::{ActionOptions, NodeId, RunPhase, TaskId, TaskKind, TaskState, error::TaskError},
    protocol::InternalAction,
};

/// Decides one event, with all that it entails for the tree.
pub(crate) fn step(
    ctx: &mut StepContext<'_>,
    event: &Event,
    now: Timestamp,
) -> Result<Answer, MissingRow> {
    let answer = decide(ctx, event, now)?;
    while let Some(next) = ctx.next_consequence() {
        follow(ctx, next, now)?;
    }
    Ok(answer)
}

fn decide(ctx: &mut StepContext<'_>, event: &Event, now: Timestamp) -> Result<Answer, MissingRow> {
    match event {
        Event::Send(tree) => tree::create(ctx, tree),
        Event::Receive(received) => receive(ctx, received, now),
        Event::Completed {
            id,
            epoch,
            outcome,
            options,
            ..
        } => completed(ctx, id, *epoch, outcome, options, now),
        Event::Delivery(delivery) => delivered(ctx, delivery, now),
        Event::Interrupted { id, owner, options } => interrupted(ctx, id, *owner, options, now),
        Event::Expire(id) => ending::expire(ctx, id, now),
        Event::Progress {
            id,
            epoch,
            progress,
        } => run::progressed(ctx, id, *epoch, progress, now),
        Event::Wake(id) => wake(ctx, id, now),
        Event::Cancel { id, why } => ending::cancel(ctx, id, why, now),
        Event::FinishExternal { id, outcome } => external::end(ctx, id, outcome, now),
    }
}

/// What a change entails elsewhere in its tree.
fn follow(ctx: &mut StepContext<'_>, next: Consequence, now: Timestamp) -> Result<(), MissingRow> {
    match next {
        Consequence::Activate(id) => activate(ctx, &id, now),
        Consequence::Ended(id) => tree::child_ended(ctx, &id, now),
        Consequence::EndedEarly(id) => synchronized::ended_early(ctx, &id, now),
        Consequence::Cancel(id) => ending::cancel_with_tree(ctx, &id, now),
        Consequence::Reserve(id, round) => participant::reserve(ctx, &id, round, now),
        Consequence::Reserved(id) => synchronized::reserved_here(ctx, &id, now),
        Consequence::NotReserved(id) => synchronized::not_reserved_here(ctx, &id, now),
        Consequence::Release(id) => participant::round_ended(ctx, &id, now),
        Consequence::Execute(id) => participant::execute(ctx, &id),
    }
}

/// A task's turn has come.
fn activate(ctx: &mut StepContext<'_>, id: &TaskId, now: Timestamp) -> Result<(), MissingRow> {
    let Some(task) = ctx.task(id)?.cloned() else {
        return Ok(());
    };
    if task.status.is_terminal() {
        return tree::pass_ended(ctx, task);
    }
    match task.kind {
        TaskKind::Simple => outbound_task::send(ctx, &task),
        TaskKind::Synchronized if task.open_children > 0 => {
            return round::start_round(ctx, task, now);
        }
        TaskKind::Synchronized => return tree::start_group(ctx, task, now),
        // A group has no handler.
        _ if task.queue.is_empty() => return tree::start_group(ctx, task, now),
        _ => local_task::enqueue(ctx, task),
    }
    Ok(())
}

/// A message came in.
fn receive(
    ctx: &mut StepContext<'_>,
    received: &Received,
    now: Timestamp,
) -> Result<Answer, MissingRow> {
    if let Some(answer) = repeated(ctx, received)? {
        return Ok(answer);
    }
    let answer = requested(ctx, received, now)?;
    if answer != Answer::Accepted {
        return Ok(answer);
    }
    if ctx.is_idle() {
        // It will change nothing the next time either, so nothing is stored: a peer that sends
        // such messages for ever must not fill our disk.
        return Ok(Answer::Ignored);
    }
    let mut row = received.row.clone();
    let repeats =
        |task| !matches!(received.what, MessageKind::Task(_)) && ctx.status_is_unchanged(task);
    if row.task.as_ref().is_some_and(repeats) {
        // A task may report as often as it likes: its row has the newest report, and of the
        // others only the fact that they came is kept.
        row.data = None;
    }
    ctx.accept(row);
    Ok(answer)
}

/// A message that was accepted before gets the same answer and has no second effect.
fn repeated(ctx: &StepContext<'_>, received: &Received) -> Result<Option<Answer>, MissingRow> {
    Ok(ctx.inbox(&received.row.key)?.map(|hash| {
        if hash == received.row.hash {
            Answer::Accepted
        } else {
            Answer::Conflict(format!(
                "message_id {} was used before for another message; ids are unique for ever",
                received.row.key.message
            ))
        }
    }))
}

/// What a message asks for.
fn requested(
    ctx: &mut StepContext<'_>,
    received: &Received,
    now: Timestamp,
) -> Result<Answer, MissingRow> {
    match &received.what {
        MessageKind::Task(task) => local_task::receive(ctx, task),
        MessageKind::Update(update) => outbound_task::update(ctx, received, update, now),
        MessageKind::Cancel(id) => ending::cancel_by_sender(ctx, received, id, now),
        MessageKind::Synchronize(task) => participant::asked(ctx, task, now),
        MessageKind::Confirm {
            task,
            reservation,
            seconds,
            round,
        } => synchronized::confirmed(ctx, received, task, reservation, *seconds, *round, now),
        MessageKind::Refuse { task, round } => {
            synchronized::refused(ctx, received, task, *round, now)
        }
        MessageKind::Release { task, round } => {
            participant::told_to_release(ctx, received, task, *round, now)
        }
        MessageKind::Execute { task, input } => {
            participant::told_to_start(ctx, received, task, input)
        }
    }
}

/// A handler's run ended.
fn completed(
    ctx: &mut StepContext<'_>,
    id: &TaskId,
    epoch: i64,
    outcome: &Result<Box<Done>, TaskError>,
    options: &ActionOptions,
    now: Timestamp,
) -> Result<Answer, MissingRow> {
    let Some(run) = run::end(ctx, id, epoch, outcome.is_err(), now)? else {
        return Ok(Answer::Ignored);
    };
    match run.moment {
        RunPhase::Execute => local_task::executed(ctx, run.task, outcome, options, now)?,
        RunPhase::HandleError => local_task::recovered(ctx, run.task, outcome, now)?,
        RunPhase::Reserve => participant::reserved(ctx, run, outcome, now),
        RunPhase::CancelReservation => participant::released(ctx, run.task),
        RunPhase::PreExecute => synchronized::pre_executed(ctx, run.task, outcome, now)?,
        RunPhase::EndRound => round::await_next_round(ctx, run.task, now),
    }
    Ok(Answer::Accepted)
}

/// The process that ran a task is gone, or has released it.
fn interrupted(
    ctx: &mut StepContext<'_>,
    id: &TaskId,
    owner: NodeId,
    options: &ActionOptions,
    now: Timestamp,
) -> Result<Answer, MissingRow> {
    let owned = |task: &&TaskState| task.owner == Some(owner);
    let Some(mut task) = ctx.task(id)?.filter(owned).cloned() else {
        return Ok(Answer::Ignored);
    };
    task.owner = None;
    let Some(moment) = task.moment else {
        // What it has reserved stands, though its slot is gone: it waits for one when it starts.
        ctx.change_quietly(task, None);
        return Ok(Answer::Accepted);
    };
    task.interrupted += 1;
    let too_often = task.interrupted >= i64::from(options.max_attempts);
    match moment {
        RunPhase::CancelReservation if too_often => participant::not_released(ctx, task),
        // The group goes on without that look back.
        RunPhase::EndRound if too_often => {
            (task.moment, task.interrupted) = (None, 0);
            round::await_next_round(ctx, task, now);
        }
        _ => local_task::interrupted(ctx, task, moment, options, now)?,
    }
    Ok(Answer::Accepted)
}

/// An outgoing message was answered or given up.
fn delivered(
    ctx: &mut StepContext<'_>,
    delivery: &Delivery,
    now: Timestamp,
) -> Result<Answer, MissingRow> {
    let message = &delivery.message;
    match &delivery.verdict {
        _ if message.carries_task => outbound_task::delivered(ctx, delivery, now)?,
        DeliveryOutcome::Refused { status, why } if matches!(status, 400 | 413 | 422) => {
            if message.action.parse() == Ok(InternalAction::ConfirmReservation) {
                participant::confirmation_refused(ctx, delivery, *status, why, now)?;
            } else {
                local_task::output_refused(ctx, delivery, *status, why)?;
            }
        }
        _ => {}
    }
    ctx.settle(delivery.clone());
    Ok(Answer::Accepted)
}

/// A time is over: that of a round, of the wait between two, or of a reservation; or the sender
/// of a task asked for a report.
fn wake(ctx: &mut StepContext<'_>, id: &TaskId, now: Timestamp) -> Result<Answer, MissingRow> {
    let due = |task: &&TaskState| task.wake_at.is_some_and(|at| at <= now);
    let Some(mut task) = ctx.task(id)?.filter(due).cloned() else {
        return Ok(Answer::Ignored);
    };
    task.wake_at = None;
    ctx.change_quietly(task.clone(), None);
    match task.kind {
        TaskKind::Synchronized => synchronized::wake(ctx, task, now)?,
        _ => participant::wake(ctx, task, now),
    }
    Ok(Answer::Accepted)
}
