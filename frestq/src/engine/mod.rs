//! The decisions: rows, an event and the time go in, changes come out. Nothing here awaits, reads a
//! clock or opens a socket.
//!
//! [`step`] reads rows through a [`StepContext`]. A row that is not loaded yet ends the step with
//! [`MissingRow`]; the caller loads what all steps of its batch miss and runs those again. So an event
//! says by itself what it needs, and a batch of a thousand costs a handful of queries.

mod event;
mod external;
mod family;
mod performer;
mod sequential;
mod simple;
mod synchronized;
mod transition;
mod world;

pub(crate) use event::{
    Answer, Delivery, DeliveryOutcome, Done, Event, MessageKind, Received, Update,
};
pub(crate) use sequential::{claim, runs_now};
pub(crate) use world::{BatchState, Changes, MissingRow, RowRequests, StepContext, TaskEvent};

use jiff::Timestamp;

/// The rows that an event is sure to need, so that most steps miss nothing.
pub(crate) fn prefetch(event: &Event, wanted: &mut RowRequests) {
    let task = match event {
        Event::Send(tree) => {
            let key = tree.first().and_then(|root| root.unique_key.clone());
            if let Some(key) = key {
                wanted.add(MissingRow::Key(key));
            }
            None
        }
        Event::Receive(received) => {
            wanted.add(MissingRow::Inbox(received.row.key.clone()));
            match &received.what {
                MessageKind::Task(task) => Some(&task.state.id),
                MessageKind::Update(update) => Some(&update.task),
                MessageKind::Synchronize(task) => Some(&task.state.id),
                MessageKind::Cancel(id) => Some(id),
                MessageKind::Confirm { task, .. }
                | MessageKind::Refuse { task, .. }
                | MessageKind::Release { task, .. }
                | MessageKind::Execute { task, .. } => Some(task),
            }
        }
        Event::Completed { id, .. }
        | Event::Progress { id, .. }
        | Event::Interrupted { id, .. }
        | Event::Expire(id)
        | Event::Wake(id)
        | Event::Cancel { id, .. }
        | Event::FinishExternal { id, .. } => Some(id),
        Event::Delivery(delivery) => {
            Some(&delivery.message.task).filter(|_| delivery.message.carries_task)
        }
    };
    if let Some(id) = task {
        wanted.add(MissingRow::Task(id.clone()));
    }
}

/// Decides one event, with all that it entails for the tree.
pub(crate) fn step(
    turn: &mut StepContext<'_>,
    event: &Event,
    now: Timestamp,
) -> Result<Answer, MissingRow> {
    let answer = decide(turn, event, now)?;
    family::conclude(turn, now)?;
    Ok(answer)
}

fn decide(turn: &mut StepContext<'_>, event: &Event, now: Timestamp) -> Result<Answer, MissingRow> {
    match event {
        Event::Send(tree) => family::plant(turn, tree),
        Event::Receive(received) => {
            if let Some(answer) = repeated(turn, received)? {
                return Ok(answer);
            }
            let answer = match &received.what {
                MessageKind::Task(task) => sequential::receive(turn, task)?,
                MessageKind::Update(update) => simple::update(turn, received, update, now)?,
                MessageKind::Cancel(id) => family::call_off_by_sender(turn, received, id, now)?,
                MessageKind::Synchronize(task) => performer::asked(turn, task, now)?,
                MessageKind::Confirm {
                    task,
                    reservation,
                    seconds,
                    round,
                } => synchronized::confirmed(
                    turn,
                    received,
                    task,
                    reservation,
                    *seconds,
                    *round,
                    now,
                )?,
                MessageKind::Refuse { task, round } => {
                    synchronized::refused(turn, received, task, *round, now)?
                }
                MessageKind::Release { task, round } => {
                    performer::told_to_release(turn, received, task, *round, now)?
                }
                MessageKind::Execute { task, input } => {
                    performer::told_to_start(turn, received, task, input)?
                }
            };
            if answer != Answer::Accepted {
                return Ok(answer);
            }
            if turn.is_idle() {
                // It will change nothing the next time either, so it leaves nothing behind: whoever sends
                // such messages for ever must not fill our disk.
                return Ok(Answer::Ignored);
            }
            let mut row = received.row.clone();
            let still =
                |task| !matches!(received.what, MessageKind::Task(_)) && turn.stands_still(task);
            if row.task.as_ref().is_some_and(still) {
                // What a task says of itself it may say as often as it likes: the newest is in its row, and
                // of the others only that they came is kept.
                row.data = None;
            }
            turn.accept(row);
            Ok(answer)
        }
        Event::Completed {
            id,
            epoch,
            outcome,
            options,
            ..
        } => sequential::completed(turn, id, *epoch, outcome, options, now),
        Event::Delivery(delivery) => simple::delivery(turn, delivery, now),
        Event::Interrupted { id, owner, options } => {
            sequential::interrupted(turn, id, *owner, options, now)
        }
        Event::Expire(id) => family::expire(turn, id, now),
        Event::Progress {
            id,
            epoch,
            progress,
        } => sequential::progressed(turn, id, *epoch, progress, now),
        Event::Wake(id) => synchronized::wake(turn, id, now),
        Event::Cancel { id, why } => family::cancel(turn, id, why, now),
        Event::FinishExternal { id, outcome } => external::end(turn, id, outcome, now),
    }
}

/// A message that was accepted before gets the same answer and has no second effect.
fn repeated(turn: &StepContext<'_>, received: &Received) -> Result<Option<Answer>, MissingRow> {
    Ok(turn.inbox(&received.row.key)?.map(|hash| {
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

#[cfg(test)]
mod tests;
