//! The actions of the queue `internal.frestq`, by which peers speak about tasks they share.

use std::{fmt, str::FromStr};

/// The queue of the internal actions.
pub(crate) const INTERNAL_QUEUE: &str = "internal.frestq";

/// An action of [`INTERNAL_QUEUE`].
///
/// The page *Protocol* of the guide lists those that original peers know. The others are
/// extensions: they go only to peers that have shown that they read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum InternalAction {
    /// The receiver of a task reports its status and output to the sender.
    UpdateTask,
    /// The sender of a task does not want it any more. An extension.
    CancelTask,
    /// The director of a synchronized group asks a participant to reserve.
    SynchronizeTask,
    /// A participant has reserved.
    ConfirmReservation,
    /// A participant can't reserve, or has lost its reservation. An extension.
    RefuseReservation,
    /// The director has ended the round, so the participant releases its reservation. An
    /// extension.
    CancelReservation,
    /// The director starts a participant.
    ExecuteSynchronized,
    /// Several messages in one request. An extension.
    Batch,
}

impl InternalAction {
    /// Every action, in the order of the declaration.
    const ALL: [Self; 8] = [
        Self::UpdateTask,
        Self::CancelTask,
        Self::SynchronizeTask,
        Self::ConfirmReservation,
        Self::RefuseReservation,
        Self::CancelReservation,
        Self::ExecuteSynchronized,
        Self::Batch,
    ];

    /// The name on the wire.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::UpdateTask => "frestq.update_task",
            Self::CancelTask => "frestq.cancel_task",
            Self::SynchronizeTask => "frestq.synchronize_task",
            Self::ConfirmReservation => "frestq.confirm_task_reservation",
            Self::RefuseReservation => "frestq.refuse_reservation",
            Self::CancelReservation => "frestq.cancel_reservation",
            Self::ExecuteSynchronized => "frestq.execute_synchronized",
            Self::Batch => "frestq.batch",
        }
    }
}

impl fmt::Display for InternalAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The text names no internal action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotInternal;

impl FromStr for InternalAction {
    type Err = NotInternal;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let action = Self::ALL.into_iter().find(|action| action.as_str() == name);
        action.ok_or(NotInternal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_is_read_from_its_own_name() {
        for action in InternalAction::ALL {
            assert_eq!(action.to_string().parse(), Ok(action));
        }
        for other in ["", "act", "frestq.", "frestq.finish_external_task"] {
            assert_eq!(other.parse::<InternalAction>(), Err(NotInternal));
        }
    }
}
