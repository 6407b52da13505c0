//! Who the other peers are, and what each may ask for: `[peers]` of the configuration, with the
//! certificates it names.
//!
//! An identity is the SHA-256 of the certificate that a connection has shown and proved to hold the
//! key of. Names, dates and chains of certificates don't matter, since each is registered by itself.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    net::IpAddr,
    path::Path,
    str::FromStr,
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, pem::PemObject},
};
use sha2::{Digest, Sha256};

use crate::{
    config::{Config, PeerConfig},
    error::{Error, Result},
    model::PeerUrl,
    wire::tls::Identity,
};

/// What a fingerprint starts with where it is written.
const PREFIX: &str = "sha256:";

/// Causes of refusals that are told apart; what is refused beyond them is only counted.
const MOST_CAUSES: usize = 1024;

/// The SHA-256 of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Fingerprint([u8; 32]);

impl Fingerprint {
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Self {
        Self(Sha256::digest(certificate.as_ref()).into())
    }

    /// Reads `sha256:HEX`; none if the text is something else, which then is a file's name.
    pub(crate) fn read(text: &str) -> Option<Result<Self, String>> {
        let digits = text.strip_prefix(PREFIX)?;
        // As `openssl x509 -fingerprint` writes it, too.
        let digits: Vec<u8> = digits.bytes().filter(|digit| *digit != b':').collect();
        let value = |digit: &u8| char::from(*digit).to_digit(16);
        let bytes: Option<Vec<u8>> = digits
            .chunks(2)
            .map(|pair| match pair {
                [high, low] => u8::try_from(value(high)? * 16 + value(low)?).ok(),
                _ => None,
            })
            .collect();
        let bytes = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        Some(bytes.map(Self).ok_or_else(|| {
            format!("{text:?} is no fingerprint: {PREFIX} is followed by 64 hexadecimal digits")
        }))
    }

    /// Reads a fingerprint, or makes it from the certificate in a file.
    fn load(pin: &str) -> Result<Self, String> {
        match Self::read(pin) {
            Some(fingerprint) => fingerprint,
            None => CertificateDer::from_pem_file(Path::new(pin))
                .map(|certificate| Self::of(&certificate))
                .map_err(|error| format!("{pin}: no certificate can be read from it: {error}")),
        }
    }

    /// Enough of it to tell certificates apart by eye.
    pub(crate) fn short(&self) -> String {
        self.to_string().chars().take(PREFIX.len() + 12).collect()
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PREFIX)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What a peer may hand to us.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Grant {
    Everything,
    Queue(String),
    Action(String, String),
}

impl Grant {
    pub(crate) fn covers(&self, queue: &str, action: &str) -> bool {
        match self {
            Grant::Everything => true,
            Grant::Queue(granted) => granted == queue,
            Grant::Action(granted, name) => granted == queue && name == action,
        }
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Grant::Everything => f.write_str("*"),
            Grant::Queue(queue) => write!(f, "{queue}/*"),
            Grant::Action(queue, action) => write!(f, "{queue}/{action}"),
        }
    }
}

impl FromStr for Grant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            None if text == "*" => Ok(Grant::Everything),
            Some((queue, "*")) if !queue.is_empty() && !queue.contains('*') => {
                Ok(Grant::Queue(queue.to_owned()))
            }
            Some((queue, action))
                if !queue.is_empty() && !action.is_empty() && !text.contains('*') =>
            {
                Ok(Grant::Action(queue.to_owned(), action.to_owned()))
            }
            _ => Err(format!(
                "{text:?} is none of \"queue/action\", \"queue/*\" and \"*\""
            )),
        }
    }
}

/// A registered peer.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) url: PeerUrl,
    pub(crate) pins: Vec<Fingerprint>,
    pub(crate) grants: Vec<Grant>,
    /// Its name may stand for a private address.
    pub(crate) private: bool,
}

impl Member {
    fn load(name: &str, config: &PeerConfig) -> Result<Self> {
        let pins = config.certificates.iter().map(|pin| {
            Fingerprint::load(pin)
                .map_err(|why| Error::Config(format!("peers.{name}.certificates: {why}")))
        });
        let grants = config.allow.iter().map(|grant| {
            grant
                .parse()
                .map_err(|why| Error::Config(format!("peers.{name}.allow: {why}")))
        });
        Ok(Self {
            name: name.to_owned(),
            url: config.url.as_deref().unwrap_or_default().parse()?,
            pins: pins.collect::<Result<_>>()?,
            grants: grants.collect::<Result<_>>()?,
            private: config.private,
        })
    }

    /// Whether it may hand us this task.
    pub(crate) fn may(&self, queue: &str, action: &str) -> bool {
        self.grants.iter().any(|grant| grant.covers(queue, action))
    }
}

/// The registered peers.
#[derive(Debug, Default)]
pub(crate) struct Members {
    by_pin: HashMap<Fingerprint, Arc<Member>>,
    by_url: HashMap<PeerUrl, Arc<Member>>,
}

impl Members {
    /// Reads the certificates that the configuration names.
    pub(crate) fn load(peers: &BTreeMap<String, PeerConfig>) -> Result<Self> {
        let mut members = Self::default();
        for (name, config) in peers {
            let member = Arc::new(Member::load(name, config)?);
            for pin in &member.pins {
                let other = members.by_pin.insert(*pin, member.clone());
                if let Some(other) = other.filter(|other| other.name != *name) {
                    return Err(Error::Config(format!(
                        "peers.{name}.certificates: {} is registered for peers.{} too, and a certificate is one peer",
                        pin.short(),
                        other.name
                    )));
                }
            }
            members.by_url.insert(member.url.clone(), member);
        }
        Ok(members)
    }

    pub(crate) fn by_pin(&self, pin: &Fingerprint) -> Option<&Arc<Member>> {
        self.by_pin.get(pin)
    }

    pub(crate) fn by_url(&self, url: &PeerUrl) -> Option<&Arc<Member>> {
        self.by_url.get(url)
    }

    /// All of them, by name.
    pub(crate) fn all(&self) -> Vec<&Arc<Member>> {
        let mut all: Vec<_> = self.by_url.values().collect();
        all.sort_by(|one, other| one.name.cmp(&other.name));
        all
    }
}

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
    /// A peer said that it is another one.
    ForeignSender(String),
    /// A peer asked for what it has no grant for.
    NotGranted(String, String, String),
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
    causes: Mutex<HashMap<Cause, u64>>,
    all: AtomicU64,
}

impl Refusals {
    pub(crate) fn note(&self, cause: Cause) {
        self.all.fetch_add(1, Ordering::Relaxed);
        let mut causes = self
            .causes
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(count) = causes.get_mut(&cause) {
            *count += 1;
        } else if causes.len() < MOST_CAUSES {
            tracing::warn!("refused, and counted from now on: {cause}");
            causes.insert(cause, 1);
        }
    }

    /// How much was refused since the start.
    pub(crate) fn count(&self) -> u64 {
        self.all.load(Ordering::Relaxed)
    }
}

/// Who this peer is and who the others are, as the configuration had it when it was last read.
#[derive(Debug)]
pub(crate) struct Standing {
    pub(crate) members: Members,
    pub(crate) identity: Identity,
    /// How this peer answers those who connect to it.
    pub(crate) server: Arc<ServerConfig>,
}

impl Standing {
    /// Reads the files that the configuration names; none in open mode.
    fn load(config: &Config) -> Result<Option<Self>> {
        let Some(identity) = Identity::load(&config.tls)? else {
            return Ok(None);
        };
        Ok(Some(Self {
            members: Members::load(&config.peers)?,
            server: Arc::new(identity.server()?),
            identity,
        }))
    }
}

/// Whom this peer trusts with what: everybody on its own machine, or its members.
#[derive(Debug, Default)]
pub(crate) struct Trust {
    standing: Option<RwLock<Arc<Standing>>>,
    pub(crate) refusals: Refusals,
}

impl Trust {
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

    /// Takes over another configuration's certificates and peers, or nothing of it.
    pub(crate) fn reload(&self, config: &Config) -> Result<()> {
        let (Some(standing), Some(new)) = (&self.standing, Standing::load(config)?) else {
            let why = "a peer gets or loses its identity only by a new start";
            return Err(Error::Config(why.to_owned()));
        };
        *standing
            .write()
            .unwrap_or_else(|poisoned| poisoned.into_inner()) = Arc::new(new);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(digit: char) -> String {
        format!("sha256:{}", digit.to_string().repeat(64))
    }

    fn members(peers: &[(&str, &[String])]) -> Result<Members> {
        let peers = peers.iter().map(|(name, pins)| {
            let config = PeerConfig {
                url: Some(format!("https://{name}.example.org/api/queues")),
                certificates: pins.to_vec(),
                allow: vec!["work/echo".into()],
                private: false,
            };
            ((*name).to_owned(), config)
        });
        Members::load(&peers.collect())
    }

    #[test]
    fn a_fingerprint_is_read_as_it_is_written() {
        let pin = Fingerprint::of(&CertificateDer::from(b"x".to_vec()));
        let read = |text: &str| Fingerprint::read(text).unwrap();
        assert_eq!(read(&pin.to_string()), Ok(pin));
        assert_eq!(
            read(&pin.to_string().to_uppercase().replace("SHA", "sha")),
            Ok(pin)
        );
        let digits = pin.to_string().split_off(7);
        let pairs: Vec<_> = digits
            .as_bytes()
            .chunks(2)
            .map(|p| std::str::from_utf8(p).unwrap())
            .collect();
        assert_eq!(read(&format!("sha256:{}", pairs.join(":"))), Ok(pin));
        for wrong in [
            "sha256:",
            "sha256:12",
            "sha256:zz",
            &hex('1')[..70],
            &format!("{}11", hex('1')),
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert_eq!(Fingerprint::read("auth.pem"), None);
    }

    #[test]
    fn a_grant_covers_what_it_names_and_nothing_else() {
        let covers =
            |grant: &str, queue, action| grant.parse::<Grant>().unwrap().covers(queue, action);
        assert!(covers("*", "any", "thing"));
        assert!(covers("work/*", "work", "echo"));
        assert!(!covers("work/*", "workshop", "echo"));
        assert!(covers("work/echo", "work", "echo"));
        assert!(!covers("work/echo", "work", "echo2"));
        for wrong in [
            "", "work", "/echo", "work/", "*/echo", "work/e*", "**", "w*/*",
        ] {
            assert!(wrong.parse::<Grant>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn both_certificates_of_a_rotation_are_the_same_peer() {
        let members = members(&[("a", &[hex('1'), hex('2')]), ("b", &[hex('3')])]).unwrap();
        let name = |digit| {
            let pin = Fingerprint::read(&hex(digit)).unwrap().unwrap();
            members.by_pin(&pin).map(|member| member.name.as_str())
        };
        assert_eq!(
            ['1', '2', '3', '4'].map(name),
            [Some("a"), Some("a"), Some("b"), None]
        );
    }

    #[test]
    fn a_certificate_is_one_peer() {
        let error = members(&[("a", &[hex('1')]), ("b", &[hex('1')])]).unwrap_err();
        let words = error.to_string();
        assert!(
            words.contains("peers.b") && words.contains("peers.a"),
            "{words}"
        );
    }

    #[test]
    fn refusals_are_all_counted_and_their_causes_not_without_end() {
        let refusals = Refusals::default();
        for n in 0..2 * MOST_CAUSES {
            refusals.note(Cause::ForeignSender(n.to_string()));
            refusals.note(Cause::NoCertificate);
        }
        assert_eq!(refusals.count(), 4 * MOST_CAUSES as u64);
        assert_eq!(refusals.causes.lock().unwrap().len(), MOST_CAUSES);
    }
}
