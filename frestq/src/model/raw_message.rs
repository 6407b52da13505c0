//! Raw messages of the protocol, for `#[frestq::message]` handlers.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::{Json, MessageId, PeerUrl, TaskId};

/// A received message: the envelope and its data.
///
/// It is the first argument of a [`#[frestq::message]`](macro@crate::message) handler.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Message {
    /// The id, chosen by the sender.
    pub id: MessageId,
    /// The queue.
    pub queue: String,
    /// The action.
    pub action: String,
    /// The peer that sent it.
    pub sender: PeerUrl,
    /// The task it is about, if any.
    #[serde(default)]
    pub task_id: Option<TaskId>,
    /// The data, as the text that was received.
    pub data: Json,
    /// A note for people.
    #[serde(default)]
    pub info: Option<String>,
    /// When the sender wants a report on the task.
    #[serde(default)]
    pub pingback_date: Option<Timestamp>,
    /// When it expires.
    #[serde(default)]
    pub expiration_date: Option<Timestamp>,
}
