//! The rounds of a synchronized group: asked to reserve, counted, started together or released.

use std::collections::HashSet;

use jiff::Timestamp;

use super::{
    batch_state::{MissingRow, TaskEvent},
    ending::{open, stop},
    messages,
    step_context::{Consequence, StepContext},
};
use crate::model::{
    GroupPhase, Json, Role, RoundMark, RunPhase, Status, TaskId, TaskState, error::TaskError,
};

/// A group that can't be satisfied ends after this many rounds: by default that is about a week,
/// as long as a message is tried.
const MOST_ROUNDS: i64 = 4096;

/// Asks every task of the group to reserve.
pub(super) fn start_round(
    ctx: &mut StepContext<'_>,
    mut group: TaskState,
    now: Timestamp,
) -> Result<(), MissingRow> {
    let round = group.round.next();
    group.status = Status::Syncing;
    group.round = round;
    // Half of what a reservation lasts, so that the first one still stands when the last one
    // comes.
    group.wake_at = now.checked_add(ctx.reservation_timeout / 2).ok();
    group.modified_at = now;
    let mut reserved = 0;
    for id in ctx.children(&group.id)? {
        let Some(mut child) = open(ctx, &id)? else {
            continue;
        };
        if child.role != Role::Sent {
            ctx.entail(Consequence::Reserve(id, round));
        } else if child.round == RoundMark::EveryRound {
            reserved += 1;
        } else {
            ctx.send(messages::synchronize(&child, round));
            if child.status == Status::Confirmed {
                child.status = Status::Sent;
                ctx.change_quietly(child, None);
            }
        }
    }
    group.phase = GroupPhase::Reserving { reserved };
    if all_have_reserved(&group) {
        return all_reserved(ctx, group, now);
    }
    ctx.change(group, None, TaskEvent::Changed);
    Ok(())
}

/// Whether every task of the group that is still open has reserved.
pub(super) fn all_have_reserved(group: &TaskState) -> bool {
    match group.phase {
        GroupPhase::Reserving { reserved } => i64::from(reserved) >= group.open_children,
        GroupPhase::BetweenRounds => false,
    }
}

/// One more has reserved.
pub(super) fn count(
    ctx: &mut StepContext<'_>,
    mut group: TaskState,
    now: Timestamp,
) -> Result<(), MissingRow> {
    if let GroupPhase::Reserving { reserved } = &mut group.phase {
        *reserved = reserved.saturating_add(1);
    }
    if all_have_reserved(&group) {
        return all_reserved(ctx, group, now);
    }
    ctx.change_quietly(group, None);
    Ok(())
}

/// One less has reserved.
pub(super) fn discount(group: &mut TaskState) {
    if let GroupPhase::Reserving { reserved } = &mut group.phase {
        *reserved = reserved.saturating_sub(1);
    }
}

/// All have reserved. The director decides about their inputs, if the group has a director.
pub(super) fn all_reserved(
    ctx: &mut StepContext<'_>,
    mut group: TaskState,
    now: Timestamp,
) -> Result<(), MissingRow> {
    group.wake_at = None;
    if group.queue.is_empty() {
        return start_all(ctx, group, &[], now);
    }
    group.moment = Some(RunPhase::PreExecute);
    ctx.change_quietly(group, None);
    Ok(())
}

/// All tasks of the group start.
pub(super) fn start_all(
    ctx: &mut StepContext<'_>,
    mut group: TaskState,
    inputs: &[(TaskId, Json)],
    now: Timestamp,
) -> Result<(), MissingRow> {
    let (id, round) = (group.id.clone(), group.round);
    group.status = Status::Executing;
    group.modified_at = now;
    ctx.change(group, None, TaskEvent::Changed);
    let children = ctx.children(&id)?;
    let members: HashSet<&TaskId> = children.iter().collect();
    for (child, input) in inputs {
        if members.contains(child) {
            ctx.set_input(child, input.clone());
        }
    }
    for id in children {
        match open(ctx, &id)? {
            Some(child) if child.role == Role::Sent => ctx.send(messages::execute(&child, round)),
            Some(_) => ctx.entail(Consequence::Execute(id)),
            None => {}
        }
    }
    Ok(())
}

/// The round has failed: all reservations are released, and the next round begins after a while.
pub(super) fn end_round(
    ctx: &mut StepContext<'_>,
    mut group: TaskState,
    now: Timestamp,
) -> Result<(), MissingRow> {
    let GroupPhase::Reserving { reserved } = group.phase else {
        return Ok(());
    };
    if group.status != Status::Syncing {
        return Ok(());
    }
    if group.round >= RoundMark::Round(MOST_ROUNDS) && group.moment.is_none() {
        let why =
            format!("not all of its tasks could reserve at the same time in {MOST_ROUNDS} rounds");
        let error = TaskError::new(TaskError::NOT_RESERVED, why);
        return stop(ctx, group, Status::Error, &error, now);
    }
    match group.moment {
        None => {}
        // Its run has not begun, and is not needed any more.
        Some(RunPhase::PreExecute) if group.owner.is_none() => group.moment = None,
        Some(RunPhase::PreExecute) => {
            // Once it has ended, none starts.
            discount(&mut group);
            ctx.change_quietly(group, None);
            return Ok(());
        }
        Some(_) => return Ok(()),
    }
    group.phase = GroupPhase::BetweenRounds;
    group.modified_at = now;
    let (id, round) = (group.id.clone(), group.round);
    if reserved > 0 && !group.queue.is_empty() {
        group.wake_at = None;
        group.moment = Some(RunPhase::EndRound);
    } else {
        group.wake_at = Some(next_round_at(ctx, &group, now));
    }
    ctx.change_quietly(group, None);
    release_all(ctx, &id, round)
}

/// Every task of the group releases what it has reserved.
fn release_all(
    ctx: &mut StepContext<'_>,
    group: &TaskId,
    round: RoundMark,
) -> Result<(), MissingRow> {
    for id in ctx.children(group)? {
        let Some(child) = open(ctx, &id)? else {
            continue;
        };
        if child.role != Role::Sent {
            ctx.entail(Consequence::Release(id));
        } else if child.round != RoundMark::EveryRound {
            ctx.send(messages::cancel_reservation(&child, round));
        }
    }
    Ok(())
}

/// The director has looked back at a round, or can't.
pub(super) fn await_next_round(ctx: &mut StepContext<'_>, mut group: TaskState, now: Timestamp) {
    group.wake_at = Some(next_round_at(ctx, &group, now));
    ctx.change_quietly(group, None);
}

/// When the next round begins: the more have failed, the more random the wait.
fn next_round_at(ctx: &StepContext<'_>, group: &TaskState, now: Timestamp) -> Timestamp {
    let before = group.round.number().unwrap_or(1) - 1;
    let doublings = u32::try_from(before).unwrap_or(0).min(5);
    let longest = ctx.reservation_timeout / 8 * 2_u32.pow(doublings);
    now.checked_add(longest.mul_f64(ctx.chance))
        .unwrap_or(Timestamp::MAX)
}
