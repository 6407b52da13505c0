//! Trust: this peer's identity, the registered peers with their certificates and grants, the log
//! of rejections, and the verification of the audit's chains.
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
