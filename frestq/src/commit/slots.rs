//! The slots of each queue in this process: how many are free, and whether tasks may wait for
//! one.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use crate::model::TaskId;

/// The slots of every queue that has a handler.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slots {
    queues: HashMap<Arc<str>, Queue>,
    /// Tasks that hold a slot while nothing runs for them.
    held: HashMap<TaskId, Arc<str>>,
    stopped: bool,
}

#[derive(Clone, Copy, Debug)]
struct Queue {
    free: usize,
    /// Tasks may wait in the database, so a new one queues up behind them.
    waiting: bool,
}

impl Slots {
    /// All slots are free, and tasks may wait since before the start.
    pub(crate) fn new<'a>(queues: impl Iterator<Item = (&'a str, usize)>) -> Self {
        let queues = queues.map(|(name, concurrency)| {
            (
                name.into(),
                Queue {
                    free: concurrency,
                    waiting: true,
                },
            )
        });
        Self {
            queues: queues.collect(),
            held: HashMap::new(),
            stopped: false,
        }
    }

    /// Frees a slot: a run in this queue has ended.
    pub(super) fn free(&mut self, queue: &str) {
        if let Some(queue) = self.queues.get_mut(queue) {
            queue.free += 1;
        }
    }

    /// Keeps the slot of a task whose run has ended.
    pub(super) fn hold(&mut self, id: TaskId, queue: &str) {
        self.held.insert(id, queue.into());
    }

    pub(super) fn holds(&self, id: &TaskId) -> bool {
        self.held.contains_key(id)
    }

    /// Whether no more tasks are claimed.
    pub(super) fn stopped(&self) -> bool {
        self.stopped
    }

    /// Whether any task holds a slot while nothing runs for it.
    pub(super) fn holds_any(&self) -> bool {
        !self.held.is_empty()
    }

    /// Frees the slots held for tasks that this process no longer owns, since another one has
    /// started them.
    pub(super) fn keep_owned(&mut self, owned: &HashSet<TaskId>) {
        let lost: Vec<_> = (self.held)
            .extract_if(|id, _| !owned.contains(id))
            .collect();
        for (_, queue) in lost {
            self.free(&queue);
        }
    }

    /// The task no longer holds its slot: it runs in it, or has released it.
    pub(super) fn forget(&mut self, id: &TaskId) {
        self.held.remove(id);
    }

    /// Takes a slot for a task that is stored in this transaction. Returns `false` if it has to
    /// queue up.
    pub(super) fn take_for_new(&mut self, queue: &str) -> bool {
        let stopped = self.stopped;
        match self.queues.get_mut(queue) {
            Some(queue) if !stopped && !queue.waiting && queue.free > 0 => {
                queue.free -= 1;
                true
            }
            Some(queue) => {
                queue.waiting = true;
                false
            }
            None => false,
        }
    }

    /// Takes a slot for a task that owns one according to its row.
    pub(super) fn take_owned(&mut self, queue: &str) {
        if let Some(queue) = self.queues.get_mut(queue) {
            queue.free = queue.free.saturating_sub(1);
        }
    }

    /// Notes that tasks may wait in every queue.
    pub(super) fn mark_all_waiting(&mut self) {
        for queue in self.queues.values_mut() {
            queue.waiting = true;
        }
    }

    /// Notes that tasks of this queue may wait.
    pub(super) fn mark_waiting(&mut self, queue: &str) {
        if let Some(queue) = self.queues.get_mut(queue) {
            queue.waiting = true;
        }
    }

    /// The queues with free slots in which tasks may wait, with the number of free slots.
    pub(super) fn claimable(&self) -> Vec<(Arc<str>, usize)> {
        if self.stopped {
            return Vec::new();
        }
        let claimable = self
            .queues
            .iter()
            .filter(|(_, queue)| queue.waiting && queue.free > 0);
        claimable
            .map(|(name, queue)| (name.clone(), queue.free))
            .collect()
    }

    pub(super) fn can_claim(&self) -> bool {
        !self.stopped
            && self
                .queues
                .values()
                .any(|queue| queue.waiting && queue.free > 0)
    }

    /// Takes slots for the waiting tasks that were claimed when every free slot was offered.
    pub(super) fn claimed(&mut self, queue: &str, count: usize) {
        if let Some(queue) = self.queues.get_mut(queue) {
            queue.waiting = count >= queue.free;
            queue.free -= count.min(queue.free);
        }
    }

    /// Stops claiming.
    pub(super) fn stop(&mut self) {
        self.stopped = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots() -> Slots {
        let mut slots = Slots::new([("q", 2)].into_iter());
        slots.claimed("q", 0);
        slots
    }

    #[test]
    fn a_new_task_takes_a_free_slot_until_there_is_none() {
        let mut slots = slots();
        assert!(slots.take_for_new("q") && slots.take_for_new("q") && !slots.take_for_new("q"));
        slots.free("q");
        assert_eq!(slots.claimable(), [("q".into(), 1)]);
    }

    #[test]
    fn a_new_task_does_not_overtake_those_that_wait() {
        let mut slots = slots();
        slots.mark_waiting("q");
        assert!(!slots.take_for_new("q"));
        slots.claimed("q", 1);
        assert!(slots.take_for_new("q"));
    }

    #[test]
    fn a_full_offer_may_have_left_some_waiting() {
        let mut slots = slots();
        slots.mark_waiting("q");
        slots.claimed("q", 2);
        assert!(!slots.can_claim());
        slots.free("q");
        assert!(slots.can_claim());
    }

    #[test]
    fn a_held_slot_is_freed_once_another_process_owns_its_task() {
        let (one, two) = (TaskId::from("one"), TaskId::from("two"));
        let mut slots = slots();
        assert!(slots.take_for_new("q") && slots.take_for_new("q"));
        slots.hold(one.clone(), "q");
        slots.hold(two.clone(), "q");
        // Holding twice, as after an uncertain commit, counts once.
        slots.hold(two.clone(), "q");
        assert!(!slots.take_for_new("q"));
        // Another process has started the second one.
        slots.keep_owned(&HashSet::from([one.clone()]));
        assert!(slots.holds(&one) && !slots.holds(&two));
        slots.keep_owned(&HashSet::from([one]));
        assert_eq!(slots.claimable(), [("q".into(), 1)]);
    }

    #[test]
    fn a_stopped_peer_claims_nothing() {
        let mut slots = slots();
        slots.stop();
        slots.mark_waiting("q");
        assert!(!slots.take_for_new("q") && slots.claimable().is_empty() && !slots.can_claim());
    }

    #[test]
    fn a_queue_without_handlers_has_no_slots() {
        assert!(!slots().take_for_new("other"));
    }
}
