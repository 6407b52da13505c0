//! A synchronized group: all of its tasks reserve, then all start, or none does.
//!
//! The group's owner, its *director*, runs numbered rounds. In a round it asks each task, a
//! *participant*, to reserve. A participant that has got a slot of its queue and has reserved
//! holds both, as a row with a deadline. Once all have reserved in the same round, the director's
//! `pre_execute` may change their inputs, and all start. A round that fails releases everything,
//! and the next one begins after a random wait that doubles: so two groups that want the same
//! slots both get them.
//!
//! Once `pre_execute` has ended there is no way back. A participant that is started late starts
//! all the same, if need be without what it had reserved.
//!
//! # The life of a group
//!
//! Its status, its [`GroupPhase`], and in parentheses what its director's handler is wanted for. A
//! group without a director's handler starts as soon as all have reserved.
//!
//! ```text
//!      created
//!         | its turn in the tree comes
//!         v
//!  +-> syncing, Reserving: each participant is asked to reserve
//!  |      |    |
//!  |      |    | a participant refuses or loses its reservation, or half of the time
//!  |      |    | that a reservation stands has passed: all release
//!  |      |    v
//!  |      |  syncing, BetweenRounds (EndRound, if any had reserved)
//!  |      |    |
//!  |      |    | the director has looked back at the round, and a random wait is over
//!  +------|----+
//!         |
//!         | all have reserved in this round
//!         v
//!      syncing, Reserving (PreExecute)
//!         |    +-- a reservation is lost meanwhile ----> as when the round fails
//!         |    +-- pre_execute fails ------------------> error
//!         | pre_execute succeeds
//!         v
//!      executing: all participants are told to start
//!         |    +-- a participant fails ----------------> error; the others are cancelled
//!         | all have finished
//!         v
//!      finished
//! ```
//!
//! A group that has failed in 4096 rounds ends in `error` too. Like every task it may be
//! cancelled, or expire.
//!
//! # The life of a participant
//!
//! Where it runs. In parentheses is what its handler is wanted for.
//!
//! ```text
//!      created
//!         | the director asks it to reserve, in a new round
//!         v
//!      syncing (Reserve)
//!         |    +-- reserve fails: it refuses ----------> created
//!         |    +-- the director ends the round --------> created
//!         |    +-- the director starts it -------------> confirmed
//!         | reserve succeeds: it confirms
//!         v
//!      reserved, with its slot
//!         |    +-- the director ends the round --------> created (CancelReservation)
//!         |    +-- its time is over: it refuses -------> created (CancelReservation)
//!         | the director starts it
//!         v
//!      confirmed (Execute)
//!         | its run begins, in the slot that it holds
//!         v
//!      executing, and on like any other task
//! ```
//!
//! What was decided while a handler ran takes effect once that run has ended: a `reserve` that
//! succeeds after the round is released, and a task that was started during its `reserve` or
//! `cancel_reservation` executes afterwards. An original director knows no rounds, so where a
//! participant would refuse, it ends in `error`.
//!
//! The director's row of a participant at another peer is `sent` once that peer has been asked,
//! `confirmed` once it has confirmed, `sent` again in the next round, and then what that peer
//! reports.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    batch_state::{MissingRow, TaskEvent},
    ending::{open, stop},
    event::{Answer, Done, Received},
    messages, ownership,
    round::{all_have_reserved, all_reserved, count, discount, end_round, start_all, start_round},
    step_context::StepContext,
    tree,
};
use crate::model::{
    GroupPhase, Json, RoundMark, Status, TaskId, TaskKind, TaskState, error::TaskError,
};

/// A participant at another peer confirms.
pub(super) fn confirmed(
    ctx: &mut StepContext<'_>,
    received: &Received,
    id: &TaskId,
    reservation: &Json,
    seconds: Option<u64>,
    round: Option<i64>,
    now: Timestamp,
) -> Result<Answer, MissingRow> {
    let Some(task) = ownership::given_to_sender(ctx, received, id)? else {
        return Ok(Answer::UnknownTask);
    };
    cancel_failed(ctx, &task);
    let Some(mut group) = group_of(ctx, &task)?.filter(|_| !task.status.is_terminal()) else {
        return Ok(Answer::Accepted);
    };
    if !is_awaited(&task, &group, round) {
        return Ok(Answer::Accepted);
    }
    ctx.set_reservation(id, reservation.clone());
    ctx.change(
        TaskState {
            // An early `executing` is not taken back.
            status: match task.status {
                Status::Executing => Status::Executing,
                _ => Status::Confirmed,
            },
            round: round.map_or(RoundMark::EveryRound, RoundMark::from_code),
            modified_at: now,
            ..task
        },
        None,
        TaskEvent::Changed,
    );
    if group.phase == GroupPhase::BetweenRounds {
        return Ok(Answer::Accepted);
    }
    if let Some(seconds) = seconds
        && let Ok(until) = now.checked_add(Duration::from_secs(seconds.min(u64::from(u32::MAX))))
    {
        group.wake_at = group.wake_at.map(|at| at.min(until));
    }
    count(ctx, group, now)?;
    Ok(Answer::Accepted)
}

/// Whether the group waits for this confirmation: for the round that is on, or for every round.
fn is_awaited(task: &TaskState, group: &TaskState, round: Option<i64>) -> bool {
    let between = group.phase == GroupPhase::BetweenRounds;
    let in_time = round.is_none() || (group.round.matches(round) && !between);
    let waits = group.status == Status::Syncing && group.moment.is_none();
    waits && in_time && !is_counted(task, group)
}

/// A local task has reserved for a group of this peer.
pub(super) fn reserved_here(
    ctx: &mut StepContext<'_>,
    id: &TaskId,
    now: Timestamp,
) -> Result<(), MissingRow> {
    let Some(task) = open(ctx, id)? else {
        return Ok(());
    };
    let Some(group) = group_of(ctx, &task)? else {
        return Ok(());
    };
    let awaited = group.status == Status::Syncing
        && group.moment.is_none()
        && group.phase != GroupPhase::BetweenRounds
        && group.round == task.round;
    if awaited {
        count(ctx, group, now)?;
    }
    Ok(())
}

/// A local task can't reserve for a group of this peer, or has lost its reservation.
pub(super) fn not_reserved_here(
    ctx: &mut StepContext<'_>,
    id: &TaskId,
    now: Timestamp,
) -> Result<(), MissingRow> {
    let Some(task) = ctx.task(id)?.cloned() else {
        return Ok(());
    };
    match group_of(ctx, &task)? {
        Some(group) => end_round(ctx, group, now),
        None => Ok(()),
    }
}

/// Whether a task that runs elsewhere is counted as having reserved in this round.
fn is_counted(task: &TaskState, group: &TaskState) -> bool {
    task.round == RoundMark::EveryRound
        || (group.phase != GroupPhase::BetweenRounds && task.round == group.round)
}

/// A task has finished before the group has started, which an original participant may do. The
/// group waits only for the others.
pub(super) fn ended_early(
    ctx: &mut StepContext<'_>,
    id: &TaskId,
    now: Timestamp,
) -> Result<(), MissingRow> {
    let Some(task) = ctx.task(id)?.cloned() else {
        return Ok(());
    };
    let Some(mut group) = group_of(ctx, &task)? else {
        return Ok(());
    };
    if is_counted(&task, &group) {
        discount(&mut group);
    }
    if group.open_children > 0 && all_have_reserved(&group) && group.moment.is_none() {
        return all_reserved(ctx, group, now);
    }
    tree::go_on(ctx, group, now)
}

/// The run of the director's `pre_execute` has ended.
pub(super) fn pre_executed(
    ctx: &mut StepContext<'_>,
    mut group: TaskState,
    outcome: &Result<Box<Done>, TaskError>,
    now: Timestamp,
) -> Result<(), MissingRow> {
    match outcome {
        Ok(done) if all_have_reserved(&group) => start_all(ctx, group, &done.inputs, now),
        // A reservation was over before the director was done.
        Ok(_) => {
            if group.phase == (GroupPhase::Reserving { reserved: 0 }) {
                // Some had reserved, so the director is asked to look back at the round.
                group.phase = GroupPhase::Reserving { reserved: 1 };
            }
            end_round(ctx, group, now)
        }
        Err(error) => stop(ctx, group, Status::Error, error, now),
    }
}

/// A participant that still speaks of a task that has failed here does not know that yet.
fn cancel_failed(ctx: &mut StepContext<'_>, task: &TaskState) {
    if task.status.is_terminal() && task.status != Status::Finished {
        ctx.send(messages::cancel(task));
    }
}

/// A participant at another peer can't reserve, or has lost its reservation.
pub(super) fn refused(
    ctx: &mut StepContext<'_>,
    received: &Received,
    id: &TaskId,
    round: Option<i64>,
    now: Timestamp,
) -> Result<Answer, MissingRow> {
    let Some(task) = ownership::given_to_sender(ctx, received, id)? else {
        return Ok(Answer::UnknownTask);
    };
    let group = group_of(ctx, &task)?;
    cancel_failed(ctx, &task);
    let every_round = task.round == RoundMark::EveryRound && !task.status.is_terminal();
    if every_round {
        // It had confirmed without a round, and knows rounds all the same: the next one asks it
        // again.
        let asked = TaskState {
            round: RoundMark::None,
            status: match task.status {
                Status::Confirmed => Status::Sent,
                status => status,
            },
            ..task
        };
        ctx.change_quietly(asked, None);
    }
    if let Some(group) = group.filter(|group| every_round || group.round.matches(round)) {
        end_round(ctx, group, now)?;
    }
    Ok(Answer::Accepted)
}

/// The time of a round is over, or that of the wait between two.
pub(super) fn wake(
    ctx: &mut StepContext<'_>,
    group: TaskState,
    now: Timestamp,
) -> Result<(), MissingRow> {
    match group.phase {
        GroupPhase::BetweenRounds => start_round(ctx, group, now),
        GroupPhase::Reserving { .. } => end_round(ctx, group, now),
    }
}

/// The open group of a task, if it has one.
fn group_of(ctx: &StepContext<'_>, task: &TaskState) -> Result<Option<TaskState>, MissingRow> {
    let Some(parent) = &task.parent else {
        return Ok(None);
    };
    let group = open(ctx, parent)?;
    Ok(group.filter(|group| group.kind == TaskKind::Synchronized))
}
