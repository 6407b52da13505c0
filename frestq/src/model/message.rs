//! Messages: received ones, and those to be sent.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Fingerprint, Json, MessageId, PeerId, PeerUrl, Status, TaskId};

/// The deduplication key of a received message: its sender, and the id that the sender chose.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct InboxKey {
    pub(crate) peer: PeerId,
    pub(crate) message: MessageId,
}

/// A received and accepted message.
#[derive(Clone, Debug)]
pub(crate) struct InboxRow {
    pub(crate) key: InboxKey,
    /// The first 16 bytes of the SHA-256 of queue and body. It distinguishes a repetition from a
    /// reused id.
    pub(crate) hash: [u8; 16],
    pub(crate) queue: Arc<str>,
    pub(crate) action: Arc<str>,
    pub(crate) task: Option<TaskId>,
    /// `None` if the message carries a task: then it is that task's input.
    pub(crate) data: Option<Json>,
    pub(crate) received_at: Timestamp,
    /// The evidence for the audit; `None` without an audit.
    pub(crate) evidence: Option<Evidence>,
}

/// The evidence for the audit: the certificate of a message's connection, and the hash of its
/// body.
#[derive(Clone, Debug)]
pub(crate) struct Evidence {
    /// The fingerprint of the connection's certificate.
    pub(crate) certificate: Option<Box<str>>,
    /// SHA-256 of the body.
    pub(crate) body: [u8; 32],
}

/// A message that the engine has decided to send. It becomes an [`OutboxRow`] when it is encoded.
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
    /// The earliest time of the first attempt.
    pub(crate) not_before: Option<Timestamp>,
    /// Whether the message carries the task itself, so that its rejection ends the task.
    pub(crate) carries_task: bool,
    /// For no server but the one that shows this certificate.
    pub(crate) pin: Option<Fingerprint>,
    /// Whether it is sent only to a peer that has shown that it reads the extensions.
    pub(crate) needs_extensions: bool,
}

/// The data of a message. Payloads that the engine has not loaded are taken from the task's row.
#[derive(Clone, Debug)]
pub(crate) enum Data {
    /// The task's input, with its info and pingback date.
    Input,
    /// The task's status and output: the given one, or that of its row.
    Update {
        status: Status,
        output: Option<Json>,
    },
    /// The data for a reservation.
    Synchronize { queue: Arc<str>, action: Arc<str> },
    /// The reservation: the given one, or that of the task's row.
    Confirm {
        reservation: Option<Json>,
        seconds: u64,
    },
    /// The task's current input.
    Execute { queue: Arc<str>, action: Arc<str> },
    /// Nothing.
    Nothing,
}

/// A message to be sent. Its body is encoded once: every attempt sends the same bytes.
#[derive(Clone, Debug)]
pub(crate) struct OutboxRow {
    /// Its number in the outbox; 0 before it is stored.
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
    /// The time after which its delivery is given up.
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) attempts: i64,
    pub(crate) due_at: Timestamp,
    pub(crate) created_at: Timestamp,
    /// Whether it carries a task that has ended by now, so that it need not be sent.
    pub(crate) moot: bool,
}

/// Whether a message was received or sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Received from another peer.
    In,
    /// Sent to another peer.
    Out,
}

/// A message, as listings and `--show-message` return it, with the field names of the original
/// frestq.
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
    /// The HTTP status of this peer's answer, or of the last answer that it received; 0 before
    /// any.
    pub output_status: i64,
    pub created_date: Timestamp,
    /// `accepted` for a received message; `pending`, `delivered` or `failed` for a sent one.
    pub state: String,
    pub attempts: i64,
    pub next_attempt_date: Option<Timestamp>,
    pub last_error: Option<String>,
}
