//! The model: ids, statuses, tasks, messages, peers, grants, errors, drafts of trees, and the
//! catalog of handlers.
//!
//! Imports nothing else of this crate. Without the feature `server` only the part compiles that a
//! task is built from.

#[cfg(feature = "server")]
pub(crate) mod audit;
#[cfg(feature = "server")]
pub(crate) mod backoff;
#[cfg(feature = "server")]
pub(crate) mod catalog;
mod codes;
pub(crate) mod draft;
pub(crate) mod error;
#[cfg(feature = "server")]
mod fingerprint;
#[cfg(feature = "server")]
mod grant;
mod ids;
mod json;
#[cfg(feature = "server")]
mod message;
#[cfg(feature = "server")]
mod options;
#[cfg(feature = "server")]
mod peer_registration;
#[cfg(feature = "server")]
pub(crate) mod raw_message;
#[cfg(feature = "server")]
pub(crate) mod statements;
mod status;
#[cfg(feature = "server")]
mod task;
mod task_error;

pub(crate) use codes::codes;
#[cfg(feature = "server")]
pub(crate) use fingerprint::Fingerprint;
#[cfg(feature = "server")]
pub(crate) use grant::Grant;
pub use ids::{InvalidPeerUrl, MessageId, PeerUrl, TaskId};
#[cfg(feature = "server")]
pub(crate) use ids::{NodeId, PeerId};
pub use json::Json;
pub(crate) use json::{null, to_json};
#[cfg(feature = "server")]
pub(crate) use message::{Data, Evidence, InboxKey, InboxRow, OutboxRow, Outgoing};
#[cfg(feature = "server")]
pub use message::{Direction, MessageRecord};
#[cfg(feature = "server")]
pub use options::ActionOptions;
#[cfg(feature = "server")]
pub(crate) use peer_registration::{PeerChange, PeerRegistration};
pub use status::{Status, TaskKind};
#[cfg(feature = "server")]
pub(crate) use task::{
    GroupPhase, NewTask, OnFailure, RoundMark, RunPhase, TaskState, check_trace,
};
#[cfg(feature = "server")]
pub use task::{Role, TaskRecord};
