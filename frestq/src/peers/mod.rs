//! The other peers: the directory of those that are known, the registry of those that are trusted,
//! and whether each can be reached.
//!
//! May import `model`, `config`, `runtime`, `store` and `security`.

pub(crate) mod directory;
pub(crate) mod reachability;
pub(crate) mod registry;
