//! Open tasks as the last transactions left them, so that what happens to one next needs no look at the
//! database. A cache of rows, and only where no other process changes them.

use std::collections::HashMap;

use super::claimed::ClaimedTask;
use crate::{
    engine::{BatchState, Event, MessageKind, RowRequests},
    model::{TaskId, TaskState},
};

/// How many tasks are kept. When there are more, all go: those that something happens to come back.
const MOST: usize = 12 * 1024;

/// For how many transactions the rows are looked at after one of them was not as expected, since whoever
/// sends the same again may do so many times.
const CAREFUL: u32 = 32;

#[derive(Debug)]
pub(crate) struct TaskCache {
    alone: bool,
    tasks: HashMap<TaskId, TaskState>,
    careful: u32,
}

impl TaskCache {
    /// `alone`: no other process changes tasks.
    pub(crate) fn new(alone: bool) -> Self {
        Self {
            alone,
            tasks: HashMap::new(),
            careful: 0,
        }
    }

    /// Whether a message or a task that comes in may be taken for a new one, as nearly all are. If it is
    /// not, its row can't be stored, and all is done again with a look at the rows.
    pub(super) fn expects_new(&mut self) -> bool {
        let careful = self.careful > 0;
        self.careful = self.careful.saturating_sub(1);
        self.alone && !careful
    }

    /// Something was there already.
    pub(super) fn be_careful(&mut self) {
        self.careful = CAREFUL;
    }

    /// Takes what comes in for new, unless something says otherwise.
    pub(super) fn assume_new(&self, event: &Event, world: &mut BatchState) {
        let Event::Receive(received) = event else {
            return;
        };
        world.inbox.insert(received.row.key.clone(), None);
        if let MessageKind::Task(task) = &received.what {
            let known = self.tasks.get(&task.state.id).cloned();
            world.tasks.insert(task.state.id.clone(), known);
        }
    }

    /// Gives what is wanted and known, and leaves the rest wanted; says what was known.
    pub(super) fn seed(&self, wanted: &mut RowRequests, world: &mut BatchState) -> Vec<TaskId> {
        let mut seeded = Vec::new();
        wanted.inbox.retain(|key| !world.inbox.contains_key(key));
        wanted.tasks.retain(|id| {
            if world.tasks.contains_key(id) {
                return false;
            }
            let known = self.tasks.get(id).cloned();
            let missing = known.is_none();
            if !missing {
                seeded.push(id.clone());
                world.tasks.insert(id.clone(), known);
            }
            missing
        });
        seeded
    }

    /// What a transaction has left, now that it is true.
    pub(super) fn keep(&mut self, world: BatchState, claimed: &[ClaimedTask]) {
        if !self.alone {
            return;
        }
        if self.tasks.len() + world.tasks.len() > MOST {
            self.tasks = HashMap::new();
        }
        for (id, state) in world.tasks {
            match state.filter(|state| !state.status.is_terminal()) {
                Some(state) => drop(self.tasks.insert(id, state)),
                None => drop(self.tasks.remove(&id)),
            }
        }
        // Those that waited in the database got their slot after the world was written.
        for task in claimed {
            self.tasks.insert(task.state.id.clone(), task.state.clone());
        }
    }

    /// Whatever a transaction may have left, nobody knows.
    pub(super) fn forget(&mut self) {
        self.tasks = HashMap::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Status;

    const NOW: jiff::Timestamp = jiff::Timestamp::UNIX_EPOCH;

    fn world(tasks: &[(&str, Status)]) -> BatchState {
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

    fn known(recent: &TaskCache, ids: &[&str]) -> Vec<TaskId> {
        let mut wanted = RowRequests {
            tasks: ids.iter().map(|id| TaskId::from(*id)).collect(),
            ..RowRequests::default()
        };
        let mut seeded = recent.seed(&mut wanted, &mut BatchState::default());
        assert_eq!(seeded.len() + wanted.tasks.len(), ids.len());
        seeded.sort();
        seeded
    }

    #[test]
    fn open_tasks_are_known_until_they_end() {
        let mut recent = TaskCache::new(true);
        recent.keep(
            world(&[("a", Status::Executing), ("b", Status::Created)]),
            &[],
        );
        assert_eq!(known(&recent, &["a", "b", "c"]), ["a".into(), "b".into()]);
        recent.keep(world(&[("a", Status::Finished)]), &[]);
        assert_eq!(known(&recent, &["a", "b"]), ["b".into()]);
        recent.forget();
        assert!(known(&recent, &["a", "b"]).is_empty());
    }

    #[test]
    fn where_others_change_tasks_too_nothing_is_known_nor_expected() {
        let mut recent = TaskCache::new(false);
        recent.keep(world(&[("a", Status::Executing)]), &[]);
        assert!(known(&recent, &["a"]).is_empty());
        assert!(!recent.expects_new());
    }

    #[test]
    fn memory_is_bounded() {
        let mut recent = TaskCache::new(true);
        for n in 0..3 * MOST {
            recent.keep(world(&[(&n.to_string(), Status::Created)]), &[]);
        }
        assert!(recent.tasks.len() <= MOST);
    }

    #[test]
    fn after_a_repetition_the_rows_are_looked_at_for_a_while() {
        let mut recent = TaskCache::new(true);
        assert!(recent.expects_new());
        recent.be_careful();
        let careful = (0..).take_while(|_| !recent.expects_new()).count();
        assert_eq!(careful, CAREFUL as usize);
    }
}
