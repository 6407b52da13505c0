//! The log of rejections: each is counted, and each reason is logged once.

use std::{
    collections::HashMap,
    fmt,
    net::IpAddr,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::model::Fingerprint;

/// The number of unknown senders that are logged; rejections of further ones are only counted.
const MAX_UNKNOWN_SENDERS: usize = 1024;

/// How long unknown senders are remembered once there are [`MAX_UNKNOWN_SENDERS`].
const FORGET_AFTER: Duration = Duration::from_secs(3600);

/// Why a message or a connection was rejected.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum RejectionReason {
    /// The sender showed no certificate.
    NoCertificate,
    /// The sender is not on the loopback, and this peer is in open mode.
    NotLoopback(IpAddr),
    /// The certificate is that of no registered peer.
    UnknownCertificate(Fingerprint),
    /// The sender set the proxy's certificate header, but is not the proxy.
    NotTheProxy(IpAddr),
    /// The proxy's certificate header can't be read.
    MalformedCertificate(&'static str),
    /// The peer has exceeded its limit of connections or requests.
    LimitExceeded(String),
    /// The certificate names a peer, but none of its authorities has signed it. With the name of
    /// the peer and the error.
    NotSignedByAuthority(Fingerprint, String, String),
    /// The certificate names several peers.
    Ambiguous(Fingerprint, String),
    /// The peer used the address of another one as `sender_url`.
    ForeignSender(String),
    /// The peer has no grant for this queue and action.
    NotGranted(String, String, String),
}

impl RejectionReason {
    /// Whether an unknown sender can cause unboundedly many different reasons of this kind. The
    /// others are bounded by the number of peers and handlers.
    fn is_from_unknown_sender(&self) -> bool {
        matches!(
            self,
            RejectionReason::UnknownCertificate(_)
                | RejectionReason::NotLoopback(_)
                | RejectionReason::NotTheProxy(_)
                | RejectionReason::NotSignedByAuthority(..)
                | RejectionReason::Ambiguous(..)
        )
    }
}

impl fmt::Display for RejectionReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RejectionReason::NoCertificate => f.write_str("a sender showed no certificate"),
            RejectionReason::NotLoopback(address) => {
                write!(
                    f,
                    "{address} is not a loopback address, and without [tls] and [peers] only the loopback may send"
                )
            }
            RejectionReason::UnknownCertificate(pin) => {
                write!(
                    f,
                    "a sender showed a certificate of no registered peer, {pin}"
                )
            }
            RejectionReason::NotTheProxy(address) => {
                write!(
                    f,
                    "{address} is not the proxy, but sent its header with a certificate"
                )
            }
            RejectionReason::MalformedCertificate(why) => {
                write!(f, "the proxy's header can't be read: {why}")
            }
            RejectionReason::LimitExceeded(name) => {
                write!(
                    f,
                    "peer {name} has too many concurrent connections or requests"
                )
            }
            RejectionReason::NotSignedByAuthority(pin, name, why) => {
                write!(
                    f,
                    "a sender showed a certificate with the name of peer {name}, {pin}, which its authorities don't confirm: {why}"
                )
            }
            RejectionReason::Ambiguous(pin, names) => write!(
                f,
                "a sender showed a certificate with the names of several peers, {names}: {pin}; register it with one of them"
            ),
            RejectionReason::ForeignSender(name) => {
                write!(
                    f,
                    "peer {name} sent with a `sender_url` that is not its own"
                )
            }
            RejectionReason::NotGranted(name, queue, action) => {
                write!(f, "peer {name} has no grant for {queue:?}/{action:?}")
            }
        }
    }
}

/// Counts rejections and logs each reason once, so that repeated attempts don't fill the disk.
#[derive(Debug, Default)]
pub(crate) struct RejectionLog {
    reasons: Mutex<Reasons>,
    total: AtomicU64,
}

#[derive(Debug, Default)]
struct Reasons {
    counts: HashMap<RejectionReason, u64>,
    unknown_senders: usize,
    /// When the first of the unknown senders was rejected.
    first_unknown_sender: Option<Instant>,
}

impl RejectionLog {
    /// Counts a rejection, and logs its reason if it is new.
    pub(crate) fn record(&self, reason: RejectionReason) {
        self.total.fetch_add(1, Ordering::Relaxed);
        let mut reasons = self
            .reasons
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(count) = reasons.counts.get_mut(&reason) {
            *count += 1;
            return;
        }
        if reason.is_from_unknown_sender() {
            if reasons.unknown_senders >= MAX_UNKNOWN_SENDERS {
                // Rejections of registered peers are still logged. Unknown senders are forgotten
                // after a while, and then logged again.
                let first = reasons.first_unknown_sender;
                if first.is_none_or(|at| at.elapsed() < FORGET_AFTER) {
                    return;
                }
                reasons
                    .counts
                    .retain(|reason, _| !reason.is_from_unknown_sender());
                reasons.unknown_senders = 0;
            }
            if reasons.unknown_senders == 0 {
                reasons.first_unknown_sender = Some(Instant::now());
            }
            reasons.unknown_senders += 1;
        }
        tracing::warn!(target: "frestq::peer", "rejected (later ones are only counted): {reason}");
        reasons.counts.insert(reason, 1);
    }

    /// The number of rejections since the start.
    pub(crate) fn count(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::CertificateDer;

    use super::*;

    #[test]
    fn all_rejections_are_counted_and_a_limited_number_of_unknown_senders_is_remembered() {
        let rejections = RejectionLog::default();
        for n in 0..2 * MAX_UNKNOWN_SENDERS {
            let certificate = CertificateDer::from(n.to_be_bytes().to_vec());
            rejections.record(RejectionReason::UnknownCertificate(Fingerprint::of(
                &certificate,
            )));
            rejections.record(RejectionReason::NoCertificate);
        }
        assert_eq!(rejections.count(), 4 * MAX_UNKNOWN_SENDERS as u64);
        let logged = || rejections.reasons.lock().unwrap().counts.len();
        assert_eq!(logged(), MAX_UNKNOWN_SENDERS + 1);
        // Rejections of registered peers are logged all the same.
        rejections.record(RejectionReason::ForeignSender("a".into()));
        assert_eq!(logged(), MAX_UNKNOWN_SENDERS + 2);
    }
}
