//! HTTP in both directions: listeners, the server, limits of connections, and the client.
//!
//! May import `model`, `protocol`, `config` and `security`.

pub(crate) mod client;
pub(crate) mod connection;
pub(crate) mod listen;
pub(crate) mod proxy;
pub(crate) mod quota;
mod resolve;
pub(crate) mod server;
#[cfg(feature = "tls")]
pub(crate) mod tls;
#[cfg(not(feature = "tls"))]
#[path = "without_tls.rs"]
pub(crate) mod tls;
