//! A raw protocol message, for handlers that take messages and not tasks.
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::{Json, MessageId, PeerUrl, TaskId};

/// A raw message.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Message {
    pub id: MessageId,
    pub queue: String,
    pub action: String,
    pub sender: PeerUrl,
    pub task_id: Option<TaskId>,
    pub data: Json,
    pub info: Option<String>,
    pub pingback_date: Option<Timestamp>,
    pub expiration_date: Option<Timestamp>,
}
