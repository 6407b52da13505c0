//! The model: ids, statuses, tasks, messages, peers, grants, errors, drafts of trees, and the
//! catalog of handlers.
//!
//! Imports nothing else of this crate.

pub(crate) mod audit;
pub(crate) mod backoff;
pub(crate) mod catalog;
mod codes;
pub(crate) mod draft;
pub(crate) mod error;
mod fingerprint;
mod grant;
mod ids;
mod json;
mod message;
mod options;
mod peer_registration;
pub(crate) mod raw_message;
pub(crate) mod statements;
mod status;
mod task;
mod task_error;

pub(crate) use codes::codes;
pub(crate) use fingerprint::Fingerprint;
pub(crate) use grant::Grant;
pub use ids::{InvalidPeerUrl, MessageId, PeerUrl, TaskId};
pub(crate) use ids::{NodeId, PeerId};
pub use json::Json;
pub(crate) use json::{null, to_json};
pub(crate) use message::{Data, Evidence, InboxKey, InboxRow, OutboxRow, Outgoing};
pub use message::{Direction, MessageRecord};
pub use options::ActionOptions;
pub(crate) use peer_registration::{PeerChange, PeerRegistration};
pub use status::{Status, TaskKind};
pub(crate) use task::{
    GroupPhase, NewTask, OnFailure, RoundMark, RunPhase, TaskState, check_trace,
};
pub use task::{Role, TaskRecord};
