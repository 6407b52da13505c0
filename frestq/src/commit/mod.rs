//! The group commit: one writer gathers events, lets the engine decide them, and commits a batch
//! in one transaction before it answers.
//!
//! May import `model`, `protocol`, `config`, `runtime`, `engine`, `store`, `security` and `peers`.

pub(crate) mod admission;
mod audit;
pub(crate) mod audit_chain;
mod claimed;
mod committer;
mod encode;
mod publish;
pub(crate) mod queue;
pub(crate) mod slots;
mod standalone;
pub(crate) mod task_cache;
mod task_log;
mod transaction;

pub(crate) use claimed::ClaimedTask;
pub(crate) use committer::{Committer, UncertainCommit};
