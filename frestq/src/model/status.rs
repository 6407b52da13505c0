//! Statuses and kinds of a task.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::codes::codes;

/// How far a task is.
///
/// The last five are terminal: they never change. All of them but `finished` are failures, for
/// the task's parent as for `--watch` and `--retry`, and have an error as their output.
/// `expired`, `cancelled` and `undeliverable` go to other peers as `error`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Status {
    /// Stored. It has not been sent yet, or waits for a free slot of its queue.
    Created,
    /// Acknowledged by the peer that is to run it.
    Sent,
    /// A synchronized group waits for reservations; one of its tasks is to reserve.
    Syncing,
    /// It holds a slot, and what it has reserved.
    Reserved,
    /// The director knows of its reservation, or has started it.
    Confirmed,
    /// Running, or waiting for its subtasks.
    Executing,
    /// Done, with an output.
    Finished,
    /// Failed; the output says why.
    Error,
    /// Its expiration date came first.
    Expired,
    /// Cancelled by its sender, by our code or the operator, or because its tree ended without it.
    Cancelled,
    /// The message that carries it was given up: its peer could not be reached before the
    /// expiration date, or within `delivery.give_up_after`. The output has the error
    /// `undeliverable`, with the last failure.
    Undeliverable,
}

/// What a task is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum TaskKind {
    /// Handed to another peer.
    Simple,
    /// Runs here; its subtasks, if any, follow one another.
    Sequential,
    /// Its subtasks run at the same time.
    Parallel,
    /// Its subtasks start together, once all have reserved.
    Synchronized,
    /// Waits for a person.
    External,
    /// A raw message for a `#[frestq::message]` handler; nothing is sent back.
    Message,
}

macro_rules! words {
    ($type:ident { $($variant:ident = $code:literal $word:literal),+ $(,)? }) => {
        codes!($type { $($variant = $code),+ });

        impl $type {
            /// Every value, in the order of the declaration.
            pub const ALL: &'static [$type] = &[$($type::$variant),+];

            /// The word that stands for it in listings and in JSON.
            pub const fn as_str(self) -> &'static str {
                match self { $($type::$variant => $word),+ }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl FromStr for $type {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($word => Ok($type::$variant),)+
                    _ => Err(format!("{text:?} is none of: {}", [$($word),+].join(", "))),
                }
            }
        }
    };
}

words!(Status {
    Created = 0 "created",
    Sent = 1 "sent",
    Syncing = 2 "syncing",
    Reserved = 3 "reserved",
    Confirmed = 4 "confirmed",
    Executing = 5 "executing",
    Finished = 10 "finished",
    Error = 11 "error",
    Expired = 12 "expired",
    Cancelled = 13 "cancelled",
    Undeliverable = 14 "undeliverable",
});

words!(TaskKind {
    Simple = 0 "simple",
    Sequential = 1 "sequential",
    Parallel = 2 "parallel",
    Synchronized = 3 "synchronized",
    External = 4 "external",
    Message = 5 "message",
});

impl Status {
    /// The code from which on a status is terminal.
    pub(crate) const FIRST_TERMINAL: i64 = Status::Finished.code();

    /// Whether the task has ended: from here on neither status nor output changes.
    pub const fn is_terminal(self) -> bool {
        self.code() >= Self::FIRST_TERMINAL
    }

    /// The word that an original peer understands.
    pub(crate) const fn on_the_wire(self) -> Status {
        match self {
            Status::Expired | Status::Cancelled | Status::Undeliverable => Status::Error,
            other => other,
        }
    }
}
