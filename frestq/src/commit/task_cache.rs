//! Open tasks as the last transactions left them, so that the next event of a task needs no read.
//! A cache of rows, used only where no other process changes tasks.

use std::collections::HashMap;

use super::claimed::ClaimedTask;
use crate::{
    engine::{BatchState, Event, MessageKind, RowRequests},
    model::{TaskId, TaskState},
};

/// The maximum number of cached tasks. When it is exceeded, the cache is cleared; tasks in use
/// return to it.
const CAPACITY: usize = 12 * 1024;

/// For how many transactions rows are read after a message that was assumed new turned out to be
/// a repetition. A sender that repeats one message often repeats many.
const CAREFUL_TRANSACTIONS: u32 = 32;

/// The cached tasks.
#[derive(Debug)]
pub(crate) struct TaskCache {
    exclusive: bool,
    tasks: HashMap<TaskId, TaskState>,
    /// For how many further transactions rows are read.
    careful: u32,
}

impl TaskCache {
    /// `exclusive`: no other process changes tasks.
    pub(crate) fn new(exclusive: bool) -> Self {
        Self {
            exclusive,
            tasks: HashMap::new(),
            careful: 0,
        }
    }

    /// Whether messages and tasks that arrive may be assumed new, as nearly all are. If one is
    /// not, storing its row fails, and the transaction is repeated with reads.
    pub(super) fn expects_new(&mut self) -> bool {
        let careful = self.careful > 0;
        self.careful = self.careful.saturating_sub(1);
        self.exclusive && !careful
    }

    /// A message that was assumed new was a repetition.
    pub(super) fn be_careful(&mut self) {
        self.careful = CAREFUL_TRANSACTIONS;
    }

    /// Assumes that a received message is new, without a read.
    pub(super) fn assume_new(&self, event: &Event, batch_state: &mut BatchState) {
        let Event::Receive(received) = event else {
            return;
        };
        batch_state.inbox.insert(received.row.key.clone(), None);
        if let MessageKind::Task(task) = &received.what {
            let known = self.tasks.get(&task.state.id).cloned();
            batch_state.tasks.insert(task.state.id.clone(), known);
        }
    }

    /// Answers requests from the cache and removes them from `requests`. Returns the ids of the
    /// tasks that were cached.
    pub(super) fn seed(
        &self,
        requests: &mut RowRequests,
        batch_state: &mut BatchState,
    ) -> Vec<TaskId> {
        let mut seeded = Vec::new();
        requests
            .inbox
            .retain(|key| !batch_state.inbox.contains_key(key));
        requests.tasks.retain(|id| {
            if batch_state.tasks.contains_key(id) {
                return false;
            }
            let known = self.tasks.get(id).cloned();
            let missing = known.is_none();
            if !missing {
                seeded.push(id.clone());
                batch_state.tasks.insert(id.clone(), known);
            }
            missing
        });
        seeded
    }

    /// Keeps the tasks of a transaction that is committed.
    pub(super) fn keep(&mut self, batch_state: BatchState, claimed: &[ClaimedTask]) {
        if !self.exclusive {
            return;
        }
        if self.tasks.len() + batch_state.tasks.len() > CAPACITY {
            self.tasks = HashMap::new();
        }
        for (id, state) in batch_state.tasks {
            match state.filter(|state| !state.status.is_terminal()) {
                Some(state) => drop(self.tasks.insert(id, state)),
                None => drop(self.tasks.remove(&id)),
            }
        }
        // Tasks that waited in the database were claimed after the batch was decided.
        for task in claimed {
            self.tasks.insert(task.state.id.clone(), task.state.clone());
        }
    }

    /// Clears the cache: the outcome of a transaction is unknown.
    pub(super) fn forget(&mut self) {
        self.tasks = HashMap::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Status;

    const NOW: jiff::Timestamp = jiff::Timestamp::UNIX_EPOCH;

    fn batch_state(tasks: &[(&str, Status)]) -> BatchState {
        let tasks = tasks.iter().map(|(id, status)| {
            let state = TaskState {
                id: (*id).into(),
                status: *status,
                ..TaskState::new(NOW)
            };
            (state.id.clone(), Some(state))
        });
        BatchState {
            tasks: tasks.collect(),
            ..BatchState::default()
        }
    }

    fn cached(cache: &TaskCache, ids: &[&str]) -> Vec<TaskId> {
        let mut requests = RowRequests {
            tasks: ids.iter().map(|id| TaskId::from(*id)).collect(),
            ..RowRequests::default()
        };
        let mut seeded = cache.seed(&mut requests, &mut BatchState::default());
        assert_eq!(seeded.len() + requests.tasks.len(), ids.len());
        seeded.sort();
        seeded
    }

    #[test]
    fn open_tasks_are_cached_until_they_end() {
        let mut cache = TaskCache::new(true);
        cache.keep(
            batch_state(&[("a", Status::Executing), ("b", Status::Created)]),
            &[],
        );
        assert_eq!(cached(&cache, &["a", "b", "c"]), ["a".into(), "b".into()]);
        cache.keep(batch_state(&[("a", Status::Finished)]), &[]);
        assert_eq!(cached(&cache, &["a", "b"]), ["b".into()]);
        cache.forget();
        assert!(cached(&cache, &["a", "b"]).is_empty());
    }

    #[test]
    fn nothing_is_cached_where_other_processes_change_tasks() {
        let mut cache = TaskCache::new(false);
        cache.keep(batch_state(&[("a", Status::Executing)]), &[]);
        assert!(cached(&cache, &["a"]).is_empty());
        assert!(!cache.expects_new());
    }

    #[test]
    fn memory_is_bounded() {
        let mut cache = TaskCache::new(true);
        for n in 0..3 * CAPACITY {
            cache.keep(batch_state(&[(&n.to_string(), Status::Created)]), &[]);
        }
        assert!(cache.tasks.len() <= CAPACITY);
    }

    #[test]
    fn after_a_repetition_rows_are_read_for_a_while() {
        let mut cache = TaskCache::new(true);
        assert!(cache.expects_new());
        cache.be_careful();
        let careful = (0..).take_while(|_| !cache.expects_new()).count();
        assert_eq!(careful, CAREFUL_TRANSACTIONS as usize);
    }
}
