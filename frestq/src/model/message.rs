//! Rows of messages: what came in, what goes out.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Fingerprint, Json, MessageId, PeerId, PeerUrl, Status, TaskId};

/// What makes a received message the same as an earlier one: its sender, and the id it chose.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct InboxKey {
    pub(crate) peer: PeerId,
    pub(crate) message: MessageId,
}

/// A received and accepted message.
#[derive(Clone, Debug)]
pub(crate) struct InboxRow {
    pub(crate) key: InboxKey,
    /// SHA-256 of queue and body, cut to 16 bytes: tells a repetition from a reused id.
    pub(crate) hash: [u8; 16],
    pub(crate) queue: Arc<str>,
    pub(crate) action: Arc<str>,
    pub(crate) task: Option<TaskId>,
    /// `None` where the message carries a task: it is that task's input.
    pub(crate) data: Option<Json>,
    pub(crate) received_at: Timestamp,
    /// What the audit keeps of it beside; none where there is no audit.
    pub(crate) evidence: Option<Evidence>,
}

/// Where a message came from, and what exactly it was.
#[derive(Clone, Debug)]
pub(crate) struct Evidence {
    /// The fingerprint of the certificate that its connection has shown.
    pub(crate) certificate: Option<Box<str>>,
    /// SHA-256 of the body.
    pub(crate) body: [u8; 32],
}

/// A message that a decision causes; it becomes an [`OutboxRow`] when its bytes are frozen.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(crate) peer: PeerId,
    pub(crate) queue: Arc<str>,
    pub(crate) action: Arc<str>,
    pub(crate) task: TaskId,
    pub(crate) data: Data,
    /// The per-task revision of an update, for peers that read it.
    pub(crate) rev: Option<i64>,
    /// The round of a synchronized group, for peers that read it.
    pub(crate) round: Option<i64>,
    /// The trace of the task that it carries, for peers that read it.
    pub(crate) trace: Option<Arc<str>>,
    pub(crate) expires_at: Option<Timestamp>,
    /// Its first attempt waits until then.
    pub(crate) not_before: Option<Timestamp>,
    /// Whether this message carries the task itself, so that its refusal ends the task.
    pub(crate) carries_task: bool,
    /// For no server but the one that shows this certificate.
    pub(crate) pin: Option<Fingerprint>,
    /// Not sent at all to a peer that has not shown that it reads our extensions.
    pub(crate) needs_extensions: bool,
}

/// What a message holds. Payloads that the decision has not seen are taken from the task's row.
#[derive(Clone, Debug)]
pub(crate) enum Data {
    /// The task's input, with its info and pingback date.
    Input,
    /// How far the task is, with its output: the given one, or the one that it has.
    Update {
        status: Status,
        output: Option<Json>,
    },
    /// What a performer needs in order to reserve for the task.
    Synchronize { queue: Arc<str>, action: Arc<str> },
    /// What a performer has reserved: what is given, or what it has.
    Confirm {
        reservation: Option<Json>,
        seconds: u64,
    },
    /// The task's input as it is by now.
    Execute { queue: Arc<str>, action: Arc<str> },
    /// Nothing.
    Nothing,
}

/// A message on its way out. Its body is frozen: every attempt sends the same bytes.
#[derive(Clone, Debug)]
pub(crate) struct OutboxRow {
    /// Its place in the outbox; 0 before it is stored.
    pub(crate) seq: i64,
    pub(crate) peer: PeerId,
    pub(crate) message: MessageId,
    pub(crate) queue: Arc<str>,
    pub(crate) action: Arc<str>,
    pub(crate) task: TaskId,
    pub(crate) carries_task: bool,
    /// For no server but the one that shows this certificate.
    pub(crate) pin: Option<Fingerprint>,
    pub(crate) body: Box<str>,
    /// After this its delivery is given up.
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) attempts: i64,
    pub(crate) due_at: Timestamp,
    pub(crate) created_at: Timestamp,
    /// It would hand over a task that has ended.
    pub(crate) moot: bool,
}

/// Whether a message came in or goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Received from another peer.
    In,
    /// Sent to another peer.
    Out,
}

/// A message as listings and `--show-message` give it, with the original's field names.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
#[allow(
    missing_docs,
    reason = "the names are the documentation: the original's columns"
)]
pub struct MessageRecord {
    pub id: MessageId,
    pub direction: Direction,
    pub action: String,
    pub queue_name: String,
    pub sender_url: PeerUrl,
    pub receiver_url: PeerUrl,
    pub is_received: bool,
    pub task_id: Option<TaskId>,
    pub input_data: Json,
    /// The HTTP status: what we answered, or were answered last; 0 before any answer.
    pub output_status: i64,
    pub created_date: Timestamp,
    /// `accepted` for a received message; `pending`, `delivered` or `failed` for a sent one.
    pub state: String,
    pub attempts: i64,
    pub next_attempt_date: Option<Timestamp>,
    pub last_error: Option<String>,
}
