//! Publishes a committed transaction: answers, notifications, counts, the log, tasks to run.

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
    /// Publishes the result of a transaction that is committed.
    pub(super) fn publish(&mut self, done: Done, batch: impl IntoIterator<Item = Submission>) {
        let Done {
            answers,
            batch_state,
            changes,
            outbox,
            claimed,
            slots,
        } = done;
        self.slots = slots;
        // The counts come first: the admission of the next message depends on them.
        self.publish_changes(&batch_state, &changes);
        task_log::write(
            &self.peers,
            &batch_state,
            &changes,
            &claimed,
            self.log_payloads,
        );
        for id in &changes.cancelled_runs {
            self.notifier.runs.cancel(id);
        }
        self.task_cache.keep(batch_state, &claimed);
        for task in claimed {
            self.start_run(task);
        }
        // Deliveries are scheduled before the answers: a caller that shuts down after its answer
        // leaves no delivery behind.
        let mut stored: HashMap<PeerId, Vec<Arc<OutboxRow>>> = HashMap::new();
        for row in outbox {
            if row.due_at > row.created_at {
                let reason = WakeReason::DueAt(row.due_at);
                self.notifier.wake_outbox(row.peer, reason);
            } else {
                stored.entry(row.peer).or_default().push(Arc::new(row));
            }
        }
        for (peer, rows) in stored {
            self.notifier.wake_outbox(peer, WakeReason::Stored(rows));
        }
        let mut answers = answers.into_iter();
        for submission in batch {
            for event in &submission.events {
                if let Event::Completed { id, epoch, .. } = event {
                    self.uncertain.running.remove(&(id.clone(), *epoch));
                }
            }
            let mine = answers.by_ref().take(submission.events.len()).collect();
            // A caller that has stopped waiting is notified in other ways.
            let _ = submission.reply.send(Ok(mine));
        }
    }

    /// Hands a claimed task to the worker.
    pub(super) fn start_run(&mut self, mut task: ClaimedTask) {
        let (id, epoch) = (&task.state.id, task.state.epoch);
        self.uncertain.running.insert((id.clone(), epoch));
        task.cancelled = Some(self.notifier.runs.begin(id, epoch));
        // Without a worker the peer is stopping, and this claim is released with the others.
        let _ = self.claimed.send(task);
    }

    fn publish_changes(&self, batch_state: &BatchState, changes: &Changes) {
        let mut open: HashMap<PeerId, i64> = HashMap::new();
        let ended_now: HashSet<_> = changes
            .log
            .iter()
            .filter(|(_, status, note)| {
                status.is_terminal() && !matches!(note, TaskEvent::Again | TaskEvent::Kept)
            })
            .map(|(id, ..)| id)
            .collect();
        let watched = !self.notifier.watchers.is_empty();
        let created = changes.created.iter().map(|new| (&new.state.id, true));
        let changed = changes.changed.iter().map(|id| (id, false));
        for (id, new) in created.chain(changed) {
            let Some(Some(state)) = batch_state.tasks.get(id) else {
                continue;
            };
            // A task that ended earlier may still release its reservation.
            let ended = state.status.is_terminal() && ended_now.contains(id);
            if state.role == Role::Received {
                // A task that was created and ended in the same transaction is in both lists.
                *open.entry(state.peer).or_default() += i64::from(new) - i64::from(!new && ended);
            }
            if let Some(at) = state.run_at.filter(|_| state.role != Role::Sent) {
                self.notifier.timer.plan(at);
            }
            if let Some(at) = state.wake_at {
                self.notifier.timer.plan(at);
            }
            if let Some(at) = state.expires_at.filter(|_| new && !ended) {
                self.notifier.timer.plan(at);
            }
            if watched && ended {
                match changes.outputs.get(id).cloned() {
                    Some(output) => {
                        let status = state.status;
                        self.notifier
                            .watchers
                            .notify_ended(id, &Ended { status, output });
                    }
                    // Its output is unchanged; a watcher reads it from the row.
                    None => self.notifier.watchers.recheck(id),
                }
            }
        }
        self.admission.add(&open);
    }
}
