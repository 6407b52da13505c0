//! Trust: this peer's identity, the registered peers with their certificates and grants, the log
//! of rejections, and the verification of the audit's chains.
//!
//! May import `model`, `config` and `store`.

pub(crate) mod audit;
#[cfg(feature = "tls")]
pub(crate) mod authority;
pub(crate) mod certificate;
pub(crate) mod registered;
pub(crate) mod rejections;
#[cfg(feature = "tls")]
pub(crate) mod tls;
#[cfg(not(feature = "tls"))]
#[path = "without_tls.rs"]
pub(crate) mod tls;
mod trust;

#[cfg(not(feature = "tls"))]
use tls as authority;

pub(crate) use rejections::RejectionReason;
pub(crate) use trust::{Trust, TrustSnapshot};
