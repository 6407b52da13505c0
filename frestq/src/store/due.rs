//! What is to be looked at: by its time, or since another process changed it.

use jiff::Timestamp;

use crate::model::{PeerId, TaskId};

/// The next moments at which something is due without anybody saying so.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Due {
    /// Tasks whose expiration date has come.
    pub(crate) expired: Vec<TaskId>,
    /// Synchronized groups whose round is over, and tasks whose reservation is.
    pub(crate) waking: Vec<TaskId>,
    /// Queues in which a delayed task may start.
    pub(crate) ready: Vec<String>,
    /// When to look again; `None`: nothing is planned.
    pub(crate) next: Option<Timestamp>,
}

/// What another process on the same database has just committed: look there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    /// Tasks of this queue wait for a slot, or will at some later moment.
    Queue(String),
    /// There are messages for this peer.
    Outbox(PeerId),
    /// This task has ended.
    Ended(TaskId),
    /// Peers were registered, or taken out.
    RegisteredPeers,
    /// Words may have been lost: look everywhere.
    Everything,
}
