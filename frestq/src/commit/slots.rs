//! The free slots of each queue in this process, and whether tasks may wait for them.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use crate::model::TaskId;

/// Known for every queue that has a handler.
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
    /// Tasks may wait in the database, so a new one has to queue up behind them.
    waiting: bool,
}

impl Slots {
    /// All slots free, and something may wait from before the start.
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

    /// A run of this queue ended.
    pub(super) fn free(&mut self, queue: &str) {
        if let Some(queue) = self.queues.get_mut(queue) {
            queue.free += 1;
        }
    }

    /// A run of this task ended, and the task keeps its slot.
    pub(super) fn hold(&mut self, id: TaskId, queue: &str) {
        self.held.insert(id, queue.into());
    }

    pub(super) fn holds(&self, id: &TaskId) -> bool {
        self.held.contains_key(id)
    }

    /// Whether no more tasks are handed out.
    pub(super) fn stopped(&self) -> bool {
        self.stopped
    }

    /// Whether any task holds a slot while nothing runs for it.
    pub(super) fn holds_any(&self) -> bool {
        !self.held.is_empty()
    }

    /// Frees what is held for tasks that are not this process's any more: another one started them.
    pub(super) fn keep(&mut self, owned: &HashSet<TaskId>) {
        let lost: Vec<_> = (self.held)
            .extract_if(|id, _| !owned.contains(id))
            .collect();
        for (_, queue) in lost {
            self.free(&queue);
        }
    }

    /// The task does not hold its slot any more: it runs in it, or has left it.
    pub(super) fn forget(&mut self, id: &TaskId) {
        self.held.remove(id);
    }

    /// A slot for a task that is being stored right now, if it need not queue up.
    pub(super) fn take_fresh(&mut self, queue: &str) -> bool {
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

    /// A slot for a task that holds one already, as its row says.
    pub(super) fn take_owned(&mut self, queue: &str) {
        if let Some(queue) = self.queues.get_mut(queue) {
            queue.free = queue.free.saturating_sub(1);
        }
    }

    /// Tasks may wait in every queue.
    pub(super) fn look_everywhere(&mut self) {
        for queue in self.queues.values_mut() {
            queue.waiting = true;
        }
    }

    /// Tasks of this queue may wait.
    pub(super) fn look(&mut self, queue: &str) {
        if let Some(queue) = self.queues.get_mut(queue) {
            queue.waiting = true;
        }
    }

    /// Queues with free slots in which tasks may wait.
    pub(super) fn hungry(&self) -> Vec<(Arc<str>, usize)> {
        if self.stopped {
            return Vec::new();
        }
        let hungry = self
            .queues
            .iter()
            .filter(|(_, queue)| queue.waiting && queue.free > 0);
        hungry
            .map(|(name, queue)| (name.clone(), queue.free))
            .collect()
    }

    pub(super) fn wants_to_claim(&self) -> bool {
        !self.stopped
            && self
                .queues
                .values()
                .any(|queue| queue.waiting && queue.free > 0)
    }

    /// So many tasks were found waiting, when every free slot was offered.
    pub(super) fn took(&mut self, queue: &str, count: usize) {
        if let Some(queue) = self.queues.get_mut(queue) {
            queue.waiting = count >= queue.free;
            queue.free -= count.min(queue.free);
        }
    }

    /// Hands out nothing any more.
    pub(super) fn stop(&mut self) {
        self.stopped = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots() -> Slots {
        let mut slots = Slots::new([("q", 2)].into_iter());
        slots.took("q", 0);
        slots
    }

    #[test]
    fn a_new_task_takes_a_free_slot_until_there_is_none() {
        let mut slots = slots();
        assert!(slots.take_fresh("q") && slots.take_fresh("q") && !slots.take_fresh("q"));
        slots.free("q");
        assert_eq!(slots.hungry(), [("q".into(), 1)]);
    }

    #[test]
    fn a_new_task_does_not_overtake_those_that_wait() {
        let mut slots = slots();
        slots.look("q");
        assert!(!slots.take_fresh("q"));
        slots.took("q", 1);
        assert!(slots.take_fresh("q"));
    }

    #[test]
    fn a_full_offer_may_have_left_some_waiting() {
        let mut slots = slots();
        slots.look("q");
        slots.took("q", 2);
        assert!(!slots.wants_to_claim());
        slots.free("q");
        assert!(slots.wants_to_claim());
    }

    #[test]
    fn a_slot_is_held_while_nothing_runs_in_it_and_freed_once_it_is_not_ours_any_more() {
        let (one, two) = (TaskId::from("one"), TaskId::from("two"));
        let mut slots = slots();
        assert!(slots.take_fresh("q") && slots.take_fresh("q"));
        slots.hold(one.clone(), "q");
        slots.hold(two.clone(), "q");
        // Twice, after a commit in doubt, is once.
        slots.hold(two.clone(), "q");
        assert!(!slots.take_fresh("q"));
        // Another process has started the second one.
        slots.keep(&HashSet::from([one.clone()]));
        assert!(slots.holds(&one) && !slots.holds(&two));
        slots.keep(&HashSet::from([one]));
        assert_eq!(slots.hungry(), [("q".into(), 1)]);
    }

    #[test]
    fn a_stopped_peer_claims_nothing() {
        let mut slots = slots();
        slots.stop();
        slots.look("q");
        assert!(!slots.take_fresh("q") && slots.hungry().is_empty() && !slots.wants_to_claim());
    }

    #[test]
    fn a_queue_without_handlers_has_no_slots() {
        assert!(!slots().take_fresh("other"));
    }
}
