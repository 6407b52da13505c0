//! Certificates and who is trusted: this peer's identity, the registered peers with their grants,
//! what was rejected, and the verification of the audit's chains.
//!
//! May import `model`, `config` and `store`.

pub(crate) mod audit;
pub(crate) mod authority;
pub(crate) mod certificate;
pub(crate) mod registered;
pub(crate) mod rejections;
pub(crate) mod tls;
mod trust;

pub(crate) use rejections::RejectionReason;
pub(crate) use trust::{Trust, TrustSnapshot};
