//! The words of the field as types: identifiers, states, rows. Imports nothing else of this crate.

mod fingerprint;
mod ids;
mod json;
mod message;
mod options;
mod registration;
mod status;
mod task;

pub(crate) use fingerprint::Fingerprint;
pub use ids::{MessageId, PeerUrl, TaskId};
pub(crate) use ids::{NodeId, PeerId};
pub use json::Json;
pub(crate) use json::{null, to_json};
pub(crate) use message::{Data, Evidence, InboxKey, InboxRow, OutboxRow, Outgoing};
pub use message::{Direction, MessageRecord};
pub use options::ActionOptions;
pub(crate) use registration::Registration;
pub use status::{Status, TaskKind};
pub(crate) use task::{Moment, NewTask, OnFailure, TaskState};
pub use task::{Role, TaskRecord};
