//! The table: from which status an update may lead to which.

use crate::model::Status::{self, *};

/// Whether the sender of a task accepts an update from one status to another.
///
/// A terminal status never changes. `executing` may repeat, with a newer output. Nothing leads
/// back.
pub(super) const fn allowed(from: Status, to: Status) -> bool {
    match (from, to) {
        (Finished | Error | Expired | Cancelled | Undeliverable, _) => false,
        (_, Finished | Error) => true,
        (Created | Sent, Syncing | Reserved | Confirmed | Executing | Sent) => true,
        (Syncing, Reserved | Confirmed | Executing) => true,
        (Reserved, Confirmed | Executing) => true,
        (Confirmed, Executing) => true,
        (Executing, Executing) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_status_never_changes() {
        for &from in Status::ALL.iter().filter(|s| s.is_terminal()) {
            for &to in Status::ALL {
                assert!(!allowed(from, to), "{from} -> {to}");
            }
        }
    }

    #[test]
    fn no_status_leads_back() {
        for &from in Status::ALL {
            for &to in Status::ALL {
                if allowed(from, to) {
                    assert!(to.code() >= from.code(), "{from} -> {to}");
                }
            }
        }
    }

    #[test]
    fn every_open_task_can_finish_and_fail() {
        for &from in Status::ALL.iter().filter(|s| !s.is_terminal()) {
            assert!(allowed(from, Finished) && allowed(from, Error), "{from}");
        }
    }
}
