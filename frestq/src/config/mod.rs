//! The configuration: its keys, the layers that set them, and its validation.
//!
//! Each layer overrides the one before it: defaults, the binary, the file, the environment, flags.
//! May import `model`.

pub(crate) mod federation;
mod identities;
mod keys;
mod layers;
pub(crate) mod load;
pub(crate) mod secrets;
pub(crate) mod section;
mod settings;
mod suggest;
#[cfg(test)]
mod tests;

pub use federation::{PeerConfig, ProxyConfig, TlsConfig};
pub use settings::{Config, DeliveryConfig, Limits, QueueConfig};
