//! Statements, put together once, with the codes of enums written into them.

use super::writes::OutboxState;
use crate::model::{PeerId, Role, RunPhase, Status, TaskKind};

/// A statement made from its parts at its first use: `sql!("... WHERE t.status < {ENDED}")`.
///
/// It lives as long as the process and has one text, by which connections keep it prepared.
macro_rules! sql {
    ($($part:tt)+) => {{
        static SQL: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| format!($($part)+));
        SQL.as_str()
    }};
}
pub(super) use sql;

/// A task has ended from this status on.
pub(super) const ENDED: i64 = Status::FIRST_TERMINAL;

pub(super) const SENT: i64 = Role::Sent.code();
pub(super) const RECEIVED: i64 = Role::Received.code();
pub(super) const LOCAL: i64 = Role::Local.code();

pub(super) const SEQUENTIAL: i64 = TaskKind::Sequential.code();
pub(super) const MESSAGE: i64 = TaskKind::Message.code();

/// The moment of a task whose handler is wanted for nothing.
pub(super) const NO_MOMENT: i64 = RunPhase::NONE;
pub(super) const CANCEL_RESERVATION: i64 = RunPhase::CancelReservation.code();

/// The state of a message in the outbox that is on its way.
pub(super) const PENDING: i64 = OutboxState::Pending.code();
/// The state that stands for received messages where both are listed.
pub(super) const ACCEPTED: i64 = -1;

/// This peer's own row.
pub(super) const OURSELVES: i64 = PeerId::SELF.0;
