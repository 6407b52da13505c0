//! What is true is told: answers, wakes, counts, the log, tasks to be run.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{
    claimed::ClaimedTask,
    committer::{Committer, Done},
    queue::Submission,
    task_log,
};
use crate::{
    engine::{BatchState, Changes, Event, TaskEvent},
    model::{OutboxRow, PeerId, Role},
    runtime::notify::{Ended, WakeReason},
};

impl Committer {
    /// Answers, and signals what is true now.
    pub(super) fn tell(&mut self, done: Done, batch: impl IntoIterator<Item = Submission>) {
        let Done {
            answers,
            world,
            changes,
            outbox,
            claimed,
            slots,
        } = done;
        self.slots = slots;
        // First of all what counts, so that the next message is judged by it.
        self.tell_changes(&world, &changes);
        task_log::tell(&self.peers, &world, &changes, &claimed, self.log_payloads);
        for id in &changes.cancelled_runs {
            self.signals.runs.cancel(id);
        }
        self.recent.keep(world, &claimed);
        for task in claimed {
            self.hand_over(task);
        }
        // Then what is to be delivered: who stops once he has his answer leaves nothing behind.
        let mut stored: HashMap<PeerId, Vec<Arc<OutboxRow>>> = HashMap::new();
        for row in outbox {
            if row.due_at > row.created_at {
                let reason = WakeReason::DueAt(row.due_at);
                self.signals.wake_outbox(row.peer, reason);
            } else {
                stored.entry(row.peer).or_default().push(Arc::new(row));
            }
        }
        for (peer, rows) in stored {
            self.signals.wake_outbox(peer, WakeReason::Stored(rows));
        }
        let mut answers = answers.into_iter();
        for submission in batch {
            for event in &submission.events {
                if let Event::Completed { id, epoch, .. } = event {
                    self.doubt.running.remove(&(id.clone(), *epoch));
                }
            }
            let mine = answers.by_ref().take(submission.events.len()).collect();
            // Who has stopped waiting learns of it by other means.
            let _ = submission.reply.send(Ok(mine));
        }
    }

    /// Gives a claimed task to the worker.
    pub(super) fn hand_over(&mut self, mut task: ClaimedTask) {
        let (id, epoch) = (&task.state.id, task.state.epoch);
        self.doubt.running.insert((id.clone(), epoch));
        task.cancelled = Some(self.signals.runs.begin(id, epoch));
        // Without a worker the peer is stopping, and the lease is released with the rest.
        let _ = self.claimed.send(task);
    }

    fn tell_changes(&self, world: &BatchState, changes: &Changes) {
        let mut open: HashMap<PeerId, i64> = HashMap::new();
        let ended_now: HashSet<_> = changes
            .log
            .iter()
            .filter(|(_, status, note)| {
                status.is_terminal() && !matches!(note, TaskEvent::Again | TaskEvent::Kept)
            })
            .map(|(id, ..)| id)
            .collect();
        let watched = !self.signals.watchers.is_empty();
        let created = changes.created.iter().map(|new| (&new.state.id, true));
        let changed = changes.changed.iter().map(|id| (id, false));
        for (id, new) in created.chain(changed) {
            let Some(Some(state)) = world.tasks.get(id) else {
                continue;
            };
            // One that had ended before may still give back what it had reserved.
            let ended = state.status.is_terminal() && ended_now.contains(id);
            if state.role == Role::Received {
                // A task that came and ended in the same transaction is in both lists.
                *open.entry(state.peer).or_default() += i64::from(new) - i64::from(!new && ended);
            }
            if let Some(at) = state.run_at.filter(|_| state.role != Role::Sent) {
                self.signals.timer.plan(at);
            }
            if let Some(at) = state.wake_at {
                self.signals.timer.plan(at);
            }
            if let Some(at) = state.expires_at.filter(|_| new && !ended) {
                self.signals.timer.plan(at);
            }
            if watched && ended {
                match changes.outputs.get(id).cloned() {
                    Some(output) => {
                        let status = state.status;
                        self.signals
                            .watchers
                            .notify_ended(id, &Ended { status, output });
                    }
                    // It keeps the output that it had.
                    None => self.signals.watchers.recheck(id),
                }
            }
        }
        self.admission.add(&open);
    }
}
