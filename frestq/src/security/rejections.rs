//! What is rejected, and why: counted, and logged once for each reason.

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

/// Strangers that are told apart; what is refused to more of them is only counted.
const MOST_STRANGERS: usize = 1024;

/// How long strangers are remembered at least, when there are so many.
const FORGET_AFTER: Duration = Duration::from_secs(3600);

/// Why something was refused, as the log tells it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum RejectionReason {
    NoCertificate,
    /// Somebody from another machine, where nobody has an identity.
    NotThisMachine(IpAddr),
    UnknownCertificate(Fingerprint),
    /// Somebody else than the proxy said which certificate he has.
    NotTheProxy(IpAddr),
    /// The proxy said it in a way that can't be read.
    MalformedCertificate(&'static str),
    /// A peer has more connections or requests than it may.
    TooMuch(String),
    /// A certificate has the name of a peer, but its authorities don't stand by it.
    NotVouchedFor(Fingerprint, String, String),
    /// A certificate has the names of several peers.
    Ambiguous(Fingerprint, String),
    /// A peer said that it is another one.
    ForeignSender(String),
    /// A peer asked for what it has no grant for.
    NotGranted(String, String, String),
}

impl RejectionReason {
    /// Whether there can be as many of it as somebody likes. The others are no more than there are
    /// peers and handlers.
    fn is_a_strangers(&self) -> bool {
        matches!(
            self,
            RejectionReason::UnknownCertificate(_)
                | RejectionReason::NotThisMachine(_)
                | RejectionReason::NotTheProxy(_)
                | RejectionReason::NotVouchedFor(..)
                | RejectionReason::Ambiguous(..)
        )
    }
}

impl fmt::Display for RejectionReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RejectionReason::NoCertificate => f.write_str("a sender showed no certificate"),
            RejectionReason::NotThisMachine(address) => {
                write!(
                    f,
                    "{address} is not of this machine, which alone may send without [tls] and [peers]"
                )
            }
            RejectionReason::UnknownCertificate(pin) => {
                write!(f, "a sender showed a certificate of no peer, {pin}")
            }
            RejectionReason::NotTheProxy(address) => {
                write!(
                    f,
                    "{address} is not the proxy, and said which certificate it has"
                )
            }
            RejectionReason::MalformedCertificate(why) => {
                write!(f, "the proxy's header can't be read: {why}")
            }
            RejectionReason::TooMuch(name) => {
                write!(
                    f,
                    "{name} has too many connections or requests at the same time"
                )
            }
            RejectionReason::NotVouchedFor(pin, name, why) => {
                write!(
                    f,
                    "a sender showed a certificate with the name of peer {name}, {pin}, which its authorities don't stand by: {why}"
                )
            }
            RejectionReason::Ambiguous(pin, names) => write!(
                f,
                "a sender showed a certificate with the names of several peers, {names}: {pin}; register it with one of them"
            ),
            RejectionReason::ForeignSender(name) => {
                write!(f, "peer {name} sent under an address that is not its own")
            }
            RejectionReason::NotGranted(name, queue, action) => {
                write!(f, "peer {name} has no grant for {queue:?}/{action:?}")
            }
        }
    }
}

/// Counts what is refused, and logs each cause once: whoever is refused may try as often as he
/// likes, and not fill our disk.
#[derive(Debug, Default)]
pub(crate) struct RejectionLog {
    causes: Mutex<Reasons>,
    all: AtomicU64,
}

#[derive(Debug, Default)]
struct Reasons {
    counts: HashMap<RejectionReason, u64>,
    strangers: usize,
    /// When the first of these came.
    first_stranger: Option<Instant>,
}

impl RejectionLog {
    pub(crate) fn note(&self, cause: RejectionReason) {
        self.all.fetch_add(1, Ordering::Relaxed);
        let mut causes = self
            .causes
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(count) = causes.counts.get_mut(&cause) {
            *count += 1;
            return;
        }
        if cause.is_a_strangers() {
            if causes.strangers >= MOST_STRANGERS {
                // However many they are, what a peer is refused for is still told, and now and then what
                // they are refused for too.
                let first = causes.first_stranger;
                if first.is_none_or(|at| at.elapsed() < FORGET_AFTER) {
                    return;
                }
                causes.counts.retain(|cause, _| !cause.is_a_strangers());
                causes.strangers = 0;
            }
            if causes.strangers == 0 {
                causes.first_stranger = Some(Instant::now());
            }
            causes.strangers += 1;
        }
        tracing::warn!("refused, and counted from now on: {cause}");
        causes.counts.insert(cause, 1);
    }

    /// How much was refused since the start.
    pub(crate) fn count(&self) -> u64 {
        self.all.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::CertificateDer;

    use super::*;

    #[test]
    fn refusals_are_all_counted_and_strangers_not_told_apart_without_end() {
        let rejections = RejectionLog::default();
        for n in 0..2 * MOST_STRANGERS {
            let certificate = CertificateDer::from(n.to_be_bytes().to_vec());
            rejections.note(RejectionReason::UnknownCertificate(Fingerprint::of(
                &certificate,
            )));
            rejections.note(RejectionReason::NoCertificate);
        }
        assert_eq!(rejections.count(), 4 * MOST_STRANGERS as u64);
        let told = || rejections.causes.lock().unwrap().counts.len();
        assert_eq!(told(), MOST_STRANGERS + 1);
        // What a peer does is told all the same.
        rejections.note(RejectionReason::ForeignSender("a".into()));
        assert_eq!(told(), MOST_STRANGERS + 2);
    }
}
