//! Who the other peers are, and what each may ask for: `[peers]` of the configuration with the
//! certificates it names, and those that were registered since.
//!
//! An identity is the SHA-256 of the certificate that a connection has shown and proved to hold the
//! key of. Names, dates and chains of certificates don't matter, since each is registered by itself;
//! they do for a peer that is registered with authorities instead.

mod authority;
mod grant;
mod members;

use std::{
    collections::HashMap,
    fmt,
    net::IpAddr,
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rustls::ServerConfig;

pub(crate) use authority::Authority;
pub(crate) use grant::Grant;
pub(crate) use members::{Member, Members, Place};

use crate::{
    config::Config,
    error::Result,
    model::{Fingerprint, Registration},
    wire::tls::Identity,
};

/// Strangers that are told apart; what is refused to more of them is only counted.
const MOST_STRANGERS: usize = 1024;

/// How long strangers are remembered at least, when there are so many.
const FORGET_AFTER: Duration = Duration::from_secs(3600);

/// Why something was refused, as the log tells it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Cause {
    NoCertificate,
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

impl Cause {
    /// Whether there can be as many of it as somebody likes. The others are no more than there are
    /// peers and handlers.
    fn is_a_strangers(&self) -> bool {
        matches!(
            self,
            Cause::UnknownCertificate(_)
                | Cause::NotTheProxy(_)
                | Cause::NotVouchedFor(..)
                | Cause::Ambiguous(..)
        )
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::NoCertificate => f.write_str("a sender showed no certificate"),
            Cause::UnknownCertificate(pin) => {
                write!(f, "a sender showed a certificate of no peer, {pin}")
            }
            Cause::NotTheProxy(address) => {
                write!(
                    f,
                    "{address} is not the proxy, and said which certificate it has"
                )
            }
            Cause::MalformedCertificate(why) => {
                write!(f, "the proxy's header can't be read: {why}")
            }
            Cause::TooMuch(name) => {
                write!(
                    f,
                    "{name} has too many connections or requests at the same time"
                )
            }
            Cause::NotVouchedFor(pin, name, why) => {
                write!(
                    f,
                    "a sender showed a certificate with the name of peer {name}, {pin}, which its authorities don't stand by: {why}"
                )
            }
            Cause::Ambiguous(pin, names) => write!(
                f,
                "a sender showed a certificate with the names of several peers, {names}: {pin}; register it with one of them"
            ),
            Cause::ForeignSender(name) => {
                write!(f, "peer {name} sent under an address that is not its own")
            }
            Cause::NotGranted(name, queue, action) => {
                write!(f, "peer {name} has no grant for {queue:?}/{action:?}")
            }
        }
    }
}

/// Counts what is refused, and logs each cause once: whoever is refused may try as often as he
/// likes, and not fill our disk.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    causes: Mutex<Causes>,
    all: AtomicU64,
}

#[derive(Debug, Default)]
struct Causes {
    counts: HashMap<Cause, u64>,
    strangers: usize,
    /// When the first of these came.
    first_stranger: Option<Instant>,
}

impl Refusals {
    pub(crate) fn note(&self, cause: Cause) {
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

/// Who this peer is and who the others are, as it was last read.
#[derive(Debug)]
pub(crate) struct Standing {
    pub(crate) members: Members,
    pub(crate) identity: Arc<Identity>,
    /// How this peer answers those who connect to it.
    pub(crate) server: Arc<ServerConfig>,
}

impl Standing {
    /// Reads the files that the configuration names; none in open mode.
    pub(crate) fn load(config: &Config) -> Result<Option<Self>> {
        let Some(identity) = Identity::load(&config.tls)? else {
            return Ok(None);
        };
        Ok(Some(Self {
            members: Members::load(&config.peers)?,
            server: Arc::new(identity.server()?),
            identity: Arc::new(identity),
        }))
    }

    /// The same, with these peers of the database.
    pub(crate) fn with(&self, registrations: Vec<Registration>) -> Self {
        Self {
            members: self.members.with(registrations),
            identity: self.identity.clone(),
            server: self.server.clone(),
        }
    }
}

/// Whom this peer trusts with what: everybody on its own machine, or its members.
#[derive(Debug, Default)]
pub(crate) struct Trust {
    standing: Option<RwLock<Arc<Standing>>>,
    pub(crate) refusals: Refusals,
}

impl Trust {
    /// What the configuration says, without the peers of the database.
    pub(crate) fn load(config: &Config) -> Result<Self> {
        Ok(Self {
            standing: Standing::load(config)?.map(|standing| RwLock::new(Arc::new(standing))),
            refusals: Refusals::default(),
        })
    }

    /// What is in effect at this moment; none in open mode.
    pub(crate) fn standing(&self) -> Option<Arc<Standing>> {
        let standing = self.standing.as_ref()?;
        let read = standing
            .read()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        Some(read.clone())
    }

    /// Puts another one into effect. In open mode there is none to be replaced.
    pub(crate) fn replace(&self, new: Standing) {
        if let Some(standing) = &self.standing {
            *standing
                .write()
                .unwrap_or_else(|poisoned| poisoned.into_inner()) = Arc::new(new);
        }
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::CertificateDer;

    use super::*;

    #[test]
    fn refusals_are_all_counted_and_strangers_not_told_apart_without_end() {
        let refusals = Refusals::default();
        for n in 0..2 * MOST_STRANGERS {
            let certificate = CertificateDer::from(n.to_be_bytes().to_vec());
            refusals.note(Cause::UnknownCertificate(Fingerprint::of(&certificate)));
            refusals.note(Cause::NoCertificate);
        }
        assert_eq!(refusals.count(), 4 * MOST_STRANGERS as u64);
        let told = || refusals.causes.lock().unwrap().counts.len();
        assert_eq!(told(), MOST_STRANGERS + 1);
        // What a peer does is told all the same.
        refusals.note(Cause::ForeignSender("a".into()));
        assert_eq!(told(), MOST_STRANGERS + 2);
    }
}
