//! A synchronized group: all of its tasks reserve, then all start, or none does.
//!
//! The group's owner, its *director*, runs numbered rounds. In a round each task is asked to reserve;
//! a task that got a slot of its queue and has reserved holds both, as a row with a deadline. Once
//! all have reserved in the same round, the director's `pre_execute` has the last word on their
//! inputs, and all start. A round that is over before gives everything back, and the next one begins
//! after a random wait that doubles: so two groups that want the same slots both get them.
//!
//! Once `pre_execute` has ended there is no way back. A task that hears late that it shall start does
//! so, if need be without what it had reserved.

use std::{collections::HashSet, time::Duration};

use jiff::Timestamp;

use super::{
    event::{Answer, Done, Received},
    family::{self, open, stop},
    performer, sequential, simple,
    world::{MissingRow, StepContext, TaskEvent},
};
use crate::model::{
    Data, Json, Outgoing, Role, RunPhase, Status, TaskId, TaskKind, TaskState, error::TaskError,
};

/// The round of a reservation that stands for whichever round is on: original performers know none.
const EVERY_ROUND: i64 = i64::MAX;

/// After so many rounds a group that can't be satisfied ends: by default that is about a week, as long as
/// a message is tried.
const MOST_ROUNDS: i64 = 4096;

/// Between two rounds, in the place of the number of those that have reserved.
const BETWEEN_ROUNDS: i64 = -1;

/// Asks every task of the group to reserve.
pub(super) fn start_round(
    turn: &mut StepContext<'_>,
    mut group: TaskState,
    now: Timestamp,
) -> Result<(), MissingRow> {
    group.status = Status::Syncing;
    group.round += 1;
    group.reserved = 0;
    // Half of what a reservation lasts, so that the first one still stands when the last one comes.
    group.wake_at = now.checked_add(turn.reservation_timeout / 2).ok();
    group.modified_at = now;
    let (id, round) = (group.id.clone(), group.round);
    let mut reserved = 0;
    for child in turn.children(&id)? {
        let Some(mut child) = open(turn, &child)? else {
            continue;
        };
        if child.role == Role::Sent {
            if child.round == EVERY_ROUND {
                reserved += 1;
                continue;
            }
            turn.send(synchronize_message(&child, round));
            if child.status == Status::Confirmed {
                child.status = Status::Sent;
                turn.change_quietly(child, None);
            }
        } else {
            performer::ask(turn, child, round, now);
        }
    }
    group.reserved = reserved;
    if group.reserved == group.open_children {
        return all_reserved(turn, group, now);
    }
    turn.change(group, None, TaskEvent::Changed);
    Ok(())
}

/// A performer confirms.
pub(super) fn confirmed(
    turn: &mut StepContext<'_>,
    received: &Received,
    id: &TaskId,
    reservation: &Json,
    seconds: Option<u64>,
    round: Option<i64>,
    now: Timestamp,
) -> Result<Answer, MissingRow> {
    let Some((task, group)) = performed(turn, received, id)? else {
        return Ok(Answer::UnknownTask);
    };
    call_off_ended(turn, &task);
    let Some(mut group) = group.filter(|_| !task.status.is_terminal()) else {
        return Ok(Answer::Accepted);
    };
    let between = group.reserved == BETWEEN_ROUNDS;
    let of_this_round = round.is_none_or(|round| round == group.round && !between);
    let waited_for = group.status == Status::Syncing && group.moment.is_none();
    if !waited_for || !of_this_round || counted(&task, &group) {
        return Ok(Answer::Accepted);
    }
    turn.set_reservation(id, reservation.clone());
    turn.change(
        TaskState {
            // An early `executing` is not taken back.
            status: match task.status {
                Status::Executing => Status::Executing,
                _ => Status::Confirmed,
            },
            round: round.unwrap_or(EVERY_ROUND),
            modified_at: now,
            ..task
        },
        None,
        TaskEvent::Changed,
    );
    if between {
        return Ok(Answer::Accepted);
    }
    if let Some(seconds) = seconds
        && let Ok(until) = now.checked_add(Duration::from_secs(seconds.min(u64::from(u32::MAX))))
    {
        group.wake_at = group.wake_at.map(|at| at.min(until));
    }
    count(turn, group, now)?;
    Ok(Answer::Accepted)
}

/// A task of ours has reserved for a group of ours.
pub(super) fn reserved_here(
    turn: &mut StepContext<'_>,
    id: &TaskId,
    now: Timestamp,
) -> Result<(), MissingRow> {
    let Some(task) = open(turn, id)? else {
        return Ok(());
    };
    let Some(group) = group_of(turn, &task)? else {
        return Ok(());
    };
    let waited_for = group.status == Status::Syncing
        && group.moment.is_none()
        && group.reserved != BETWEEN_ROUNDS
        && group.round == task.round;
    if waited_for {
        count(turn, group, now)?;
    }
    Ok(())
}

/// Whether a task that is performed elsewhere is counted as having reserved in this round.
fn counted(task: &TaskState, group: &TaskState) -> bool {
    task.round == EVERY_ROUND || (group.reserved != BETWEEN_ROUNDS && task.round == group.round)
}

/// A task has ended well before the group has started, which an original performer may do. The group
/// waits for the others only.
pub(super) fn ended_early(
    turn: &mut StepContext<'_>,
    mut group: TaskState,
    task: &TaskState,
    now: Timestamp,
) -> Result<(), MissingRow> {
    if group.reserved != BETWEEN_ROUNDS {
        if counted(task, &group) {
            group.reserved = (group.reserved - 1).max(0);
        }
        let ready = group.open_children > 0 && group.reserved == group.open_children;
        if ready && group.moment.is_none() {
            return all_reserved(turn, group, now);
        }
    }
    family::go_on(turn, group, now)
}

fn count(
    turn: &mut StepContext<'_>,
    mut group: TaskState,
    now: Timestamp,
) -> Result<(), MissingRow> {
    group.reserved += 1;
    if group.reserved == group.open_children {
        return all_reserved(turn, group, now);
    }
    turn.change_quietly(group, None);
    Ok(())
}

/// Nothing stands in the way: the director has the last word, if the group has one.
fn all_reserved(
    turn: &mut StepContext<'_>,
    mut group: TaskState,
    now: Timestamp,
) -> Result<(), MissingRow> {
    group.wake_at = None;
    if group.queue.is_empty() {
        return start_all(turn, group, &[], now);
    }
    group.moment = Some(RunPhase::PreExecute);
    turn.change_quietly(group, None);
    Ok(())
}

/// The director's `pre_execute`, or its look back at a round, has ended.
pub(super) fn directed(
    turn: &mut StepContext<'_>,
    mut group: TaskState,
    moment: RunPhase,
    outcome: &Result<Box<Done>, TaskError>,
    now: Timestamp,
) -> Result<(), MissingRow> {
    match (moment, outcome) {
        // A reservation was over before the director was done.
        (RunPhase::PreExecute, Ok(_)) if group.reserved < group.open_children => {
            // Some had, and the director is to look back at them.
            group.reserved = group.reserved.max(1);
            end_round(turn, group, now)
        }
        (RunPhase::PreExecute, Ok(done)) => start_all(turn, group, &done.inputs, now),
        (RunPhase::PreExecute, Err(error)) => stop(turn, group, Status::Error, error, now),
        _ => {
            go_on_to_the_next_round(turn, group, now);
            Ok(())
        }
    }
}

/// The director has looked back at a round, or can't.
pub(super) fn go_on_to_the_next_round(
    turn: &mut StepContext<'_>,
    mut group: TaskState,
    now: Timestamp,
) {
    group.wake_at = Some(next_round(turn, &group, now));
    turn.change_quietly(group, None);
}

/// All tasks of the group start.
fn start_all(
    turn: &mut StepContext<'_>,
    mut group: TaskState,
    inputs: &[(TaskId, Json)],
    now: Timestamp,
) -> Result<(), MissingRow> {
    let (id, round) = (group.id.clone(), group.round);
    group.status = Status::Executing;
    group.modified_at = now;
    turn.change(group, None, TaskEvent::Changed);
    let children = turn.children(&id)?;
    let family: HashSet<&TaskId> = children.iter().collect();
    for (child, input) in inputs {
        if family.contains(child) {
            turn.set_input(child, input.clone());
        }
    }
    for child in children {
        let Some(child) = open(turn, &child)? else {
            continue;
        };
        if child.role == Role::Sent {
            turn.send(Outgoing {
                action: "frestq.execute_synchronized".into(),
                data: Data::Execute {
                    queue: child.queue.clone(),
                    action: child.action.clone(),
                },
                round: Some(round),
                expires_at: child.expires_at,
                // If it can't be told to start, it ends, and the group with it.
                carries_task: true,
                ..internal(&child)
            });
        } else {
            performer::execute(turn, child);
        }
    }
    Ok(())
}

/// A performer that still speaks of a task that has failed here has not heard of that.
fn call_off_ended(turn: &mut StepContext<'_>, task: &TaskState) {
    if task.status.is_terminal() && task.status != Status::Finished {
        turn.send(simple::cancel_message(task));
    }
}

/// A performer can't reserve, or does not hold its reservation any more.
pub(super) fn refused(
    turn: &mut StepContext<'_>,
    received: &Received,
    id: &TaskId,
    round: Option<i64>,
    now: Timestamp,
) -> Result<Answer, MissingRow> {
    let Some((task, group)) = performed(turn, received, id)? else {
        return Ok(Answer::UnknownTask);
    };
    call_off_ended(turn, &task);
    let for_good = task.round == EVERY_ROUND && !task.status.is_terminal();
    if for_good {
        // It had confirmed without a round, and knows rounds all the same: it is to be asked again.
        turn.change_quietly(
            TaskState {
                round: 0,
                status: match task.status {
                    Status::Confirmed => Status::Sent,
                    status => status,
                },
                ..task
            },
            None,
        );
    }
    let concerned = |group: &TaskState| for_good || round.is_none_or(|round| round == group.round);
    if let Some(group) = group.filter(concerned) {
        end_round(turn, group, now)?;
    }
    Ok(Answer::Accepted)
}

/// Its time is over: that of a round, of the wait between two, or of a reservation; or its sender
/// wants a report.
pub(super) fn wake(
    turn: &mut StepContext<'_>,
    id: &TaskId,
    now: Timestamp,
) -> Result<Answer, MissingRow> {
    let due = |task: &TaskState| task.wake_at.is_some_and(|at| at <= now);
    let Some(mut task) = turn.task(id)?.filter(|task| due(task)).cloned() else {
        return Ok(Answer::Ignored);
    };
    task.wake_at = None;
    turn.change_quietly(task.clone(), None);
    if task.kind != TaskKind::Synchronized {
        performer::wake(turn, task, now)?;
    } else if task.reserved == BETWEEN_ROUNDS {
        start_round(turn, task, now)?;
    } else {
        end_round(turn, task, now)?;
    }
    Ok(Answer::Accepted)
}

/// The round has failed: everything is given back, and the next one begins after a while.
pub(super) fn end_round(
    turn: &mut StepContext<'_>,
    mut group: TaskState,
    now: Timestamp,
) -> Result<(), MissingRow> {
    if group.status != Status::Syncing || group.reserved == BETWEEN_ROUNDS {
        return Ok(());
    }
    if group.round >= MOST_ROUNDS && group.moment.is_none() {
        let why =
            format!("not all of its tasks could reserve at the same time in {MOST_ROUNDS} rounds");
        let error = TaskError::new(TaskError::NOT_RESERVED, why);
        return stop(turn, group, Status::Error, &error, now);
    }
    match group.moment {
        None => {}
        // Nobody has begun to direct what is over.
        Some(RunPhase::PreExecute) if group.owner.is_none() => group.moment = None,
        Some(RunPhase::PreExecute) => {
            // Its director finds none of them started.
            group.reserved = (group.reserved - 1).max(0);
            turn.change_quietly(group, None);
            return Ok(());
        }
        Some(_) => return Ok(()),
    }
    let some_reserved = group.reserved > 0;
    group.reserved = BETWEEN_ROUNDS;
    group.modified_at = now;
    let (id, round) = (group.id.clone(), group.round);
    if some_reserved && !group.queue.is_empty() {
        group.wake_at = None;
        group.moment = Some(RunPhase::EndRound);
    } else {
        group.wake_at = Some(next_round(turn, &group, now));
    }
    turn.change_quietly(group, None);
    for child in turn.children(&id)? {
        let Some(child) = open(turn, &child)? else {
            continue;
        };
        if child.role != Role::Sent {
            performer::release(turn, child, now);
        } else if child.round != EVERY_ROUND {
            turn.send(Outgoing {
                action: "frestq.cancel_reservation".into(),
                needs_extensions: true,
                round: Some(round),
                ..internal(&child)
            });
        }
    }
    Ok(())
}

/// When the next round begins: the more have failed, the more random the wait.
fn next_round(turn: &StepContext<'_>, group: &TaskState, now: Timestamp) -> Timestamp {
    let doublings = u32::try_from(group.round - 1).unwrap_or(0).min(5);
    let longest = turn.reservation_timeout / 8 * 2_u32.pow(doublings);
    now.checked_add(longest.mul_f64(turn.chance))
        .unwrap_or(Timestamp::MAX)
}

/// The group of a task, if there is one.
pub(super) fn group_of(
    turn: &StepContext<'_>,
    task: &TaskState,
) -> Result<Option<TaskState>, MissingRow> {
    let Some(parent) = &task.parent else {
        return Ok(None);
    };
    let group = open(turn, parent)?;
    Ok(group.filter(|group| group.kind == TaskKind::Synchronized))
}

/// The task of ours that the sender of a message performs, with its group.
#[allow(clippy::type_complexity, reason = "a pair that is taken apart at once")]
fn performed(
    turn: &StepContext<'_>,
    received: &Received,
    id: &TaskId,
) -> Result<Option<(TaskState, Option<TaskState>)>, MissingRow> {
    let task = turn.task(id)?;
    let task = task.filter(|task| simple::is_receiver(task, received));
    let Some(task) = task.cloned() else {
        return Ok(None);
    };
    let group = group_of(turn, &task)?;
    Ok(Some((task, group)))
}

fn synchronize_message(task: &TaskState, round: i64) -> Outgoing {
    Outgoing {
        action: "frestq.synchronize_task".into(),
        data: Data::Synchronize {
            queue: task.queue.clone(),
            action: task.action.clone(),
        },
        round: Some(round),
        expires_at: task.expires_at,
        not_before: task.run_at,
        carries_task: true,
        // An original one has been asked, and asked again would take it for another task.
        needs_extensions: round > 1,
        ..internal(task)
    }
}

/// A message about a task between its director and its performer, without content.
pub(super) fn internal(task: &TaskState) -> Outgoing {
    Outgoing {
        action: "".into(),
        data: Data::Nothing,
        rev: None,
        round: Some(task.round).filter(|round| *round > 0),
        ..sequential::update_message(task, None)
    }
}
