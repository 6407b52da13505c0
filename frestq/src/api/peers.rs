//! The registered peers, as the application sees and changes them.

use serde::Serialize;

use super::peer::Frestq;
use crate::{
    model::{
        PeerRegistration, PeerUrl,
        audit::{APPLICATION, Entry},
        error::{Error, Result},
    },
    operator,
    security::{certificate::read_fingerprint, registered::RegisteredPeer},
};

/// The longest name of a peer, in characters.
const LONGEST_NAME: usize = 100;

/// Another peer, on its way to be registered: who it is, and what it may hand to us.
///
/// ```
/// use frestq::Peer;
///
/// let auth2 = Peer::new("auth2", "https://auth2.example.org:5000/api/queues")
///     .certificate("sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")
///     .allow("say_queue/hello_world");
/// ```
///
/// A wrong address or a text that is no certificate is reported by [`RegisteredPeers::add`], so that
/// building stays fluent.
#[must_use = "a peer is not registered until it is added"]
#[derive(Clone, Debug)]
pub struct Peer {
    name: String,
    url: String,
    certificates: Vec<String>,
    ca: Option<String>,
    allow: Vec<String>,
    private: bool,
}

impl Peer {
    /// A peer under a name of your choice, with its root queues URL, which starts with `https://`.
    pub fn new(name: impl Into<String>, url: impl AsRef<str>) -> Self {
        Self {
            name: name.into(),
            url: url.as_ref().to_owned(),
            certificates: Vec::new(),
            ca: None,
            allow: Vec::new(),
            private: false,
        }
    }

    /// A certificate that it may show: the text of a PEM file, or `sha256:` and the fingerprint in
    /// hexadecimal. At least one is needed unless there is a [`ca`](Self::ca); two are good while one is
    /// replaced by the other.
    pub fn certificate(mut self, certificate: impl Into<String>) -> Self {
        self.certificates.push(certificate.into());
        self
    }

    /// The certificates of authorities, as the text of a PEM file: it may show any certificate that one of
    /// them has signed, for the host of its URL, in its time. Revocation is not looked at.
    pub fn ca(mut self, bundle: impl Into<String>) -> Self {
        self.ca = Some(bundle.into());
        self
    }

    /// What it may hand to us: `"queue/action"`, `"queue/*"` or `"*"`. Nothing, unless it is said.
    pub fn allow(mut self, grant: impl Into<String>) -> Self {
        self.allow.push(grant.into());
        self
    }

    /// Lets the name in its URL stand for a private address, which it may not otherwise.
    pub fn private(mut self) -> Self {
        self.private = true;
        self
    }

    /// The row of this peer, if it can be one.
    pub(crate) fn check(self) -> Result<PeerRegistration> {
        let name = self.name;
        let refuse = |why: String| Error::Invalid(format!("peer {name:?}: {why}"));
        let length = name.chars().count();
        if name.trim().is_empty() || length > LONGEST_NAME || name.contains(char::is_control) {
            let why = format!("a name has 1 to {LONGEST_NAME} characters, all of them visible");
            return Err(refuse(why));
        }
        let url: PeerUrl = self.url.parse()?;
        if !url.is_https() {
            return Err(refuse("the url must start with https://".to_owned()));
        }
        let certificates = self.certificates.iter().map(|text| read_fingerprint(text));
        let certificates = certificates
            .collect::<Result<Vec<_>, _>>()
            .map_err(refuse)?;
        if certificates.is_empty() && self.ca.is_none() {
            return Err(refuse(
                "at least one certificate is needed, or a ca, by which to know it".to_owned(),
            ));
        }
        let row = PeerRegistration {
            name: name.clone(),
            url,
            certificates,
            ca: self.ca,
            allow: self.allow,
            private: self.private,
        };
        RegisteredPeer::from_row(&row).map_err(refuse)?;
        Ok(row)
    }
}

/// A registered peer, as [`RegisteredPeers::list`] gives it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PeerRecord {
    /// The name that this peer gives it.
    pub name: String,
    /// Its root queues URL.
    pub url: PeerUrl,
    /// The fingerprints of the certificates that it may show.
    pub certificates: Vec<String>,
    /// Whether it is also known by the word of authorities.
    pub ca: bool,
    /// What it may hand to us.
    pub allow: Vec<String>,
    /// `configuration` or `database`.
    pub registered_in: &'static str,
}

impl PeerRecord {
    pub(crate) fn of(member: &RegisteredPeer) -> Self {
        Self {
            name: member.name.clone(),
            url: member.url.clone(),
            certificates: member.pins.iter().map(ToString::to_string).collect(),
            ca: member.authority.is_some(),
            allow: member.grants.iter().map(ToString::to_string).collect(),
            registered_in: member.registered_in.word(),
        }
    }
}

/// The registered peers of this one: those of its configuration, and those that were added since.
///
/// ```no_run
/// # use frestq::{Frestq, Peer};
/// # async fn example(peer: Frestq, pem: String) -> frestq::Result<()> {
/// let auth2 = Peer::new("auth2", "https://auth2.example.org:5000/api/queues");
/// peer.peers().add(auth2.certificate(pem).allow("say_queue/*")).await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct RegisteredPeers(pub(crate) Frestq);

impl Frestq {
    /// The registered peers, to be listed and changed while this one serves.
    pub fn peers(&self) -> RegisteredPeers {
        RegisteredPeers(self.clone())
    }
}

impl RegisteredPeers {
    /// Registers a peer: it is in the database when this returns, and may come in from now on. What was
    /// added under its name before is replaced; a new address keeps the tasks of the old one.
    ///
    /// The other processes of this peer, if there are any, hear of it within a moment, and within a
    /// minute at the latest.
    ///
    /// # Errors
    ///
    /// [`Error::PeerUrl`] for its address; [`Error::Invalid`] for what else it was built from, and if
    /// its name, address or certificate is that of another one, or of one that the configuration
    /// registers; [`Error::Config`] if this peer has no certificate of its own; those of the database.
    pub async fn add(&self, peer: Peer) -> Result<()> {
        let row = peer.check()?;
        let (name, argument) = (row.name.clone(), serde_json::to_string(&row)?);
        let entry = self.entry(("add_peer", &argument), &name);
        let services = &self.0.services;
        let done = operator::peers::add(&services.registry, &services.commits, row, entry).await?;
        tracing::info!("{done}");
        Ok(())
    }

    /// Takes out a peer that was added: it may not come in any more, and nothing is sent to it. Its
    /// tasks stay as they are, and go on if it is added again.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if there is none of this name, or the configuration has it; those of the
    /// database.
    pub async fn remove(&self, name: &str) -> Result<()> {
        let entry = self.entry(("remove_peer", ""), name);
        let services = &self.0.services;
        let done =
            operator::peers::remove(&services.registry, &services.commits, name, entry).await?;
        tracing::info!("{done}");
        Ok(())
    }

    fn entry(&self, asked: (&str, &str), name: &str) -> Entry {
        let now = self.0.services.clock.now();
        Entry {
            task: Some(name.into()),
            ..Entry::decided(now, APPLICATION, asked.0, asked.1)
        }
    }

    /// All of them, by name; none where this peer has no certificate.
    pub fn list(&self) -> Vec<PeerRecord> {
        let snapshot = self.0.services.trust.snapshot();
        snapshot.map_or_else(Vec::new, |snapshot| {
            let all = snapshot.peers.all();
            all.into_iter()
                .map(|member| PeerRecord::of(member))
                .collect()
        })
    }
}

impl std::fmt::Debug for RegisteredPeers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("RegisteredPeers")
            .field(&self.list())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Fingerprint;

    fn refusal(peer: Peer) -> String {
        peer.check().unwrap_err().to_string()
    }

    fn pin() -> String {
        format!("sha256:{}", "1".repeat(64))
    }

    #[test]
    fn a_certificate_in_pem_is_kept_by_its_fingerprint() {
        let key = rcgen::KeyPair::generate().unwrap();
        let made = rcgen::CertificateParams::default().self_signed(&key);
        let made = made.unwrap();
        let peer = Peer::new("b", "https://b.example.org/api/queues").certificate(made.pem());
        let row = peer.check().unwrap();
        assert_eq!(row.certificates, [Fingerprint::of(made.der())]);
    }

    #[test]
    fn what_can_not_be_a_peer_is_refused_with_the_reason() {
        let url = "https://b.example.org/api/queues";
        let good = || Peer::new("b", url).certificate(pin());
        good().check().unwrap();
        for (peer, word) in [
            (Peer::new("", url).certificate(pin()), "name"),
            (Peer::new("b\n", url).certificate(pin()), "name"),
            (
                Peer::new("b", "http://b/api/queues").certificate(pin()),
                "https",
            ),
            (Peer::new("b", "b").certificate(pin()), "root queues URL"),
            (Peer::new("b", url), "certificate"),
            (good().certificate("b.pem"), "PEM"),
            (good().certificate("sha256:12"), "fingerprint"),
            (good().allow("work"), "queue/action"),
            (good().ca("ca.pem"), "no certificate"),
        ] {
            let why = refusal(peer);
            assert!(why.contains(word), "{word}: {why}");
        }
    }
}
