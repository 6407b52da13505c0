//! The registered peers: how the application lists and changes them.

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

/// The maximum length of a peer's name, in characters.
const MAX_NAME_LENGTH: usize = 100;

/// A peer to be registered: its name, how it is authenticated, and what it may send.
///
/// ```
/// use frestq::Peer;
///
/// let auth2 = Peer::new("auth2", "https://auth2.example.org:5000/api/queues")
///     .certificate("sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")
///     .allow("say_queue/hello_world");
/// ```
///
/// [`RegisteredPeers::add`] reports an invalid address or certificate, so the builder methods
/// return no `Result`.
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
    /// Makes a peer with a name of your choice and its root queues URL, which starts with
    /// `https://`.
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

    /// Adds a certificate that the peer may show: the text of a PEM file, or `sha256:` and the
    /// fingerprint in hexadecimal.
    ///
    /// At least one is needed unless there is a [`ca`](Self::ca). Use two while one replaces the
    /// other.
    pub fn certificate(mut self, certificate: impl Into<String>) -> Self {
        self.certificates.push(certificate.into());
        self
    }

    /// Sets the certificates of its authorities, as the text of a PEM file.
    ///
    /// The peer may show any valid certificate for the host of its URL that one of them has
    /// signed. Revocation is not checked.
    pub fn ca(mut self, bundle: impl Into<String>) -> Self {
        self.ca = Some(bundle.into());
        self
    }

    /// Adds a grant for what it may send to this peer: `"queue/action"`, `"queue/*"` or `"*"`. By
    /// default it may send nothing.
    pub fn allow(mut self, grant: impl Into<String>) -> Self {
        self.allow.push(grant.into());
        self
    }

    /// Allows the host name in its URL to resolve to a private address, which is rejected by
    /// default.
    pub fn private(mut self) -> Self {
        self.private = true;
        self
    }

    /// Validates the peer and converts it into its row.
    pub(crate) fn check(self) -> Result<PeerRegistration> {
        let name = self.name;
        let reject = |why: String| Error::Invalid(format!("peer {name:?}: {why}"));
        let length = name.chars().count();
        if name.trim().is_empty() || length > MAX_NAME_LENGTH || name.contains(char::is_control) {
            let why = format!("a name has 1 to {MAX_NAME_LENGTH} characters, all of them visible");
            return Err(reject(why));
        }
        let url: PeerUrl = self.url.parse()?;
        if !url.is_https() {
            return Err(reject("the url must start with https://".to_owned()));
        }
        let certificates = self.certificates.iter().map(|text| read_fingerprint(text));
        let certificates = certificates
            .collect::<Result<Vec<_>, _>>()
            .map_err(reject)?;
        if certificates.is_empty() && self.ca.is_none() {
            return Err(reject(
                "at least one certificate is needed, or a ca, to authenticate it".to_owned(),
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
        RegisteredPeer::from_row(&row).map_err(reject)?;
        Ok(row)
    }
}

/// A registered peer, as [`RegisteredPeers::list`] returns it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PeerRecord {
    /// The name under which it is registered.
    pub name: String,
    /// Its root queues URL.
    pub url: PeerUrl,
    /// The fingerprints of the certificates that it may show.
    pub certificates: Vec<String>,
    /// Whether certificates of its authorities are accepted as well.
    pub ca: bool,
    /// The grants: what it may send to this peer.
    pub allow: Vec<String>,
    /// Where it is registered: `configuration` or `database`.
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

/// The registered peers: those of the configuration and those added to the database.
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
    /// The registered peers, to list and change them while this peer is serving.
    pub fn peers(&self) -> RegisteredPeers {
        RegisteredPeers(self.clone())
    }
}

impl RegisteredPeers {
    /// Registers a peer.
    ///
    /// When this returns, the peer is stored in the database, and its messages are accepted. It
    /// replaces a peer that was added with the same name before; a new address keeps the tasks of
    /// the old one.
    ///
    /// Other processes of this peer usually learn of it at once, and within a minute at the
    /// latest.
    ///
    /// # Errors
    ///
    /// [`Error::PeerUrl`] for an invalid address; [`Error::Invalid`] for other invalid values,
    /// and if its name, address or certificate belongs to another peer or to one of the
    /// configuration; [`Error::Config`] if this peer has no certificate of its own; errors of the
    /// database.
    pub async fn add(&self, peer: Peer) -> Result<()> {
        let row = peer.check()?;
        let (name, argument) = (row.name.clone(), serde_json::to_string(&row)?);
        let entry = self.entry(("add_peer", &argument), &name);
        let services = &self.0.services;
        let done = operator::peers::add(&services.registry, &services.commits, row, entry).await?;
        tracing::info!(target: "frestq::operator", "{done}");
        Ok(())
    }

    /// Removes a peer that was added.
    ///
    /// Its messages are rejected from then on, and nothing is sent to it. Its tasks stay as they
    /// are, and go on if it is added again.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if no peer has this name, or if the configuration registers it; errors
    /// of the database.
    pub async fn remove(&self, name: &str) -> Result<()> {
        let entry = self.entry(("remove_peer", ""), name);
        let services = &self.0.services;
        let done =
            operator::peers::remove(&services.registry, &services.commits, name, entry).await?;
        tracing::info!(target: "frestq::operator", "{done}");
        Ok(())
    }

    fn entry(&self, (kind, argument): (&str, &str), name: &str) -> Entry {
        let now = self.0.services.clock.now();
        Entry {
            task: Some(name.into()),
            ..Entry::decided(now, APPLICATION, kind, argument)
        }
    }

    /// Lists all registered peers by name. The list is empty if this peer has no certificate.
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
    fn an_invalid_peer_is_rejected_with_the_reason() {
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
