//! The other peers: the directory of known peers, the registry of registered peers, and the
//! reachability of each.
//!
//! May import `model`, `config`, `runtime`, `store` and `security`.

pub(crate) mod directory;
pub(crate) mod reachability;
pub(crate) mod registry;
