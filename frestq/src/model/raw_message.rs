//! A raw message of the protocol, as `#[frestq::message]` handlers take it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::{Json, MessageId, PeerUrl, TaskId};

/// One received message: the envelope and what it carries.
///
/// It comes as the first argument of a [`#[frestq::message]`](macro@crate::message) handler.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Message {
    /// The id that its sender chose.
    pub id: MessageId,
    /// The queue it came in.
    pub queue: String,
    /// The action it asks for.
    pub action: String,
    /// The peer that sent it.
    pub sender: PeerUrl,
    /// The task it is about, if any.
    #[serde(default)]
    pub task_id: Option<TaskId>,
    /// What it carries: the very text that came.
    pub data: Json,
    /// A note for people.
    #[serde(default)]
    pub info: Option<String>,
    /// When its sender wants to hear about the task unasked.
    #[serde(default)]
    pub pingback_date: Option<Timestamp>,
    /// After this it is worthless.
    #[serde(default)]
    pub expiration_date: Option<Timestamp>,
}
