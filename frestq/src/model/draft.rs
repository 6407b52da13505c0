//! Drafts: tasks before they are stored, which the builders make and the planner reads.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    Json, PeerUrl,
    error::{Error, Result},
    null,
};

/// A task that is not stored yet, of any kind and output.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) target: Target,
    pub(crate) children: Vec<Draft>,
    pub(crate) data: Result<Json>,
    pub(crate) label: Option<String>,
    pub(crate) info: Option<String>,
    pub(crate) trace: Option<String>,
    pub(crate) expires: Option<When>,
    pub(crate) pingback: Option<When>,
    pub(crate) delay: Option<Duration>,
    pub(crate) priority: i32,
    pub(crate) unique: Option<String>,
    pub(crate) pin: Option<String>,
}

/// What the task does.
#[derive(Debug)]
pub(crate) enum Target {
    Action {
        peer: Result<PeerUrl>,
        queue: String,
        action: String,
    },
    Sequential,
    Parallel {
        waits_for_all: bool,
    },
    External,
    /// An empty name means no director.
    Synchronized {
        director: &'static str,
    },
}

impl Draft {
    pub(crate) fn new(target: Target) -> Self {
        Self {
            target,
            children: Vec::new(),
            data: Ok(null()),
            label: None,
            info: None,
            trace: None,
            expires: None,
            pingback: None,
            delay: None,
            priority: 0,
            unique: None,
            pin: None,
        }
    }
}

/// A time, or a duration from the time of sending.
#[derive(Clone, Copy, Debug)]
pub(crate) enum When {
    At(Timestamp),
    In(Duration),
}

impl When {
    pub(crate) fn resolve(self, now: Timestamp) -> Result<Timestamp> {
        match self {
            When::At(at) => Ok(at),
            When::In(distance) => now.checked_add(distance).map_err(|_| {
                Error::Invalid(format!("a date {distance:?} from now is out of range"))
            }),
        }
    }
}
