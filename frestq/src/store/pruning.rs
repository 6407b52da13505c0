//! What is removed for its age: a step at a time, each looked at again in the transaction that
//! removes it.

use jiff::Timestamp;

use super::sql::{ENDED, NO_MOMENT, PENDING};

/// Why a task `t` stays, in the words of both databases: it has not ended, or after `before`,
/// something runs or waits for it, or a message about it is on its way. The messages on their way
/// are read once a statement.
pub(super) fn stays(before: &str) -> String {
    format!(
        "(t.status < {ENDED} OR t.moment <> {NO_MOMENT} OR t.owner IS NOT NULL OR t.modified_at >= {before} \
         OR t.id IN (SELECT task FROM outbox WHERE state = {PENDING}))"
    )
}

/// Something to remove, in one transaction.
#[derive(Debug)]
pub(crate) enum Step {
    /// Tasks that ended before this moment, each after those below it.
    Tasks(Vec<i64>, Timestamp),
    /// Sent messages.
    Sent(Vec<i64>),
    /// Received messages.
    Received {
        gone: Vec<i64>,
        /// These lose their payload and stay, to be told from a repetition.
        emptied: Vec<i64>,
    },
}

/// How much went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pruned {
    /// Tasks that no other peer knows.
    pub(crate) removed: u64,
    /// Tasks of which nothing is left but that they were.
    pub(crate) tombstones: u64,
    pub(crate) messages: u64,
    /// Messages without their payload.
    pub(crate) emptied: u64,
}

impl Pruned {
    pub(crate) fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

impl std::ops::AddAssign for Pruned {
    fn add_assign(&mut self, more: Self) {
        self.removed += more.removed;
        self.tombstones += more.tombstones;
        self.messages += more.messages;
        self.emptied += more.emptied;
    }
}
