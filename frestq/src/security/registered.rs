//! The registered peers, from the configuration and from the database.
//!
//! If the two conflict, the configuration takes precedence: write access to the database allows
//! adding peers, but not changing those that the operator has configured.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::Arc,
};

use rustls_pki_types::{CertificateDer, pem::PemObject};

use super::{authority::Authority, rejections::RejectionReason};
use crate::model::Grant;
use crate::{
    config::federation::PeerConfig,
    model::{
        Fingerprint, PeerRegistration, PeerUrl,
        error::{Error, Result},
    },
};

/// Where a peer is registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RegisteredIn {
    Configuration,
    Database,
}

impl RegisteredIn {
    /// The word for it in messages.
    pub(crate) fn word(self) -> &'static str {
        match self {
            RegisteredIn::Configuration => "configuration",
            RegisteredIn::Database => "database",
        }
    }
}

/// A registered peer: its name, address, certificates and grants.
#[derive(Debug)]
pub(crate) struct RegisteredPeer {
    pub(crate) name: String,
    pub(crate) url: PeerUrl,
    pub(crate) pins: Vec<Fingerprint>,
    /// The authorities that may sign further certificates of the peer.
    pub(crate) authority: Option<Arc<Authority>>,
    pub(crate) grants: Vec<Grant>,
    /// Whether its host name may resolve to a private address.
    pub(crate) private: bool,
    pub(crate) registered_in: RegisteredIn,
}

impl RegisteredPeer {
    /// Reads the files that the configuration names.
    fn load(name: &str, config: &PeerConfig) -> Result<Self> {
        let fault = |key, why| Error::Config(format!("peers.{name}.{key}: {why}"));
        let pins = config.certificates.iter().map(|pin| load(pin));
        let pins: Result<_, String> = pins.collect();
        let url = config.url.as_deref().unwrap_or_default().parse()?;
        let authority = config.ca.as_ref().map(|file| {
            let bundle = std::fs::read_to_string(file).map_err(|error| error.to_string());
            bundle
                .and_then(|bundle| Authority::new(&url, &bundle))
                .map_err(|why| fault("ca", format!("{file}: {why}")))
        });
        Ok(Self {
            name: name.to_owned(),
            authority: authority.transpose()?.map(Arc::new),
            url,
            pins: pins.map_err(|why| fault("certificates", why))?,
            grants: grants(&config.allow).map_err(|why| fault("allow", why))?,
            private: config.private,
            registered_in: RegisteredIn::Configuration,
        })
    }

    /// The peer of a row of the database.
    pub(crate) fn from_row(row: &PeerRegistration) -> Result<Self, String> {
        Ok(Self {
            name: row.name.clone(),
            url: row.url.clone(),
            pins: row.certificates.clone(),
            authority: match &row.ca {
                Some(bundle) => Some(Arc::new(Authority::new(&row.url, bundle)?)),
                None => None,
            },
            grants: grants(&row.allow)?,
            private: row.private,
            registered_in: RegisteredIn::Database,
        })
    }

    /// Whether address and certificates are the same, so that deliveries are not affected.
    pub(crate) fn is_reached_like(&self, other: &RegisteredPeer) -> bool {
        let authorities = [self, other].map(|peer| peer.authority.as_ref().map(Arc::as_ptr));
        self.url == other.url && self.pins == other.pins && authorities[0] == authorities[1]
    }

    /// Whether the peer has a grant for this action.
    pub(crate) fn may(&self, queue: &str, action: &str) -> bool {
        self.grants.iter().any(|grant| grant.covers(queue, action))
    }
}

/// Parses a fingerprint, or computes that of the certificate in a file.
fn load(pin: &str) -> Result<Fingerprint, String> {
    match Fingerprint::read(pin) {
        Some(fingerprint) => fingerprint,
        None => CertificateDer::from_pem_file(Path::new(pin))
            .map(|certificate| Fingerprint::of(&certificate))
            .map_err(|error| format!("{pin}: the certificate can't be read: {error}")),
    }
}

fn grants(allow: &[String]) -> Result<Vec<Grant>, String> {
    allow.iter().map(|grant| grant.parse()).collect()
}

/// All registered peers, indexed by certificate and address.
#[derive(Debug, Default)]
pub(crate) struct PeerSet {
    by_pin: HashMap<Fingerprint, Arc<RegisteredPeer>>,
    by_url: HashMap<PeerUrl, Arc<RegisteredPeer>>,
    /// The rows of the database from which this set was built.
    pub(crate) registrations: Vec<PeerRegistration>,
    /// The rows that have no effect because they conflict: the name and why.
    pub(crate) ignored: Vec<(String, String)>,
}

impl PeerSet {
    /// Reads the certificates that the configuration names.
    pub(crate) fn load(configs: &BTreeMap<String, PeerConfig>) -> Result<Self> {
        let mut peers = Self::default();
        for (name, config) in configs {
            let peer = RegisteredPeer::load(name, config)?;
            if let Some(why) = peers.conflict(&peer) {
                return Err(Error::Config(format!("peers.{name}: {why}")));
            }
            peers.add(peer);
        }
        Ok(peers)
    }

    /// The set with the peers of the configuration and those of `rows`.
    pub(crate) fn with(&self, mut rows: Vec<PeerRegistration>) -> Self {
        // Sorted, so that all processes with the same rows build the same set.
        rows.sort_by(|one, other| one.name.cmp(&other.name));
        let mut peers = Self::default();
        for peer in self.all() {
            if peer.registered_in == RegisteredIn::Configuration {
                peers.insert(peer.clone());
            }
        }
        for row in &rows {
            let why = match RegisteredPeer::from_row(row) {
                Ok(peer) => match peers.conflict(&peer) {
                    None => {
                        peers.add(peer);
                        continue;
                    }
                    Some(why) => why,
                },
                Err(why) => why,
            };
            peers.ignored.push((row.name.clone(), why));
        }
        peers.registrations = rows;
        peers
    }

    fn add(&mut self, peer: RegisteredPeer) {
        self.insert(Arc::new(peer));
    }

    fn insert(&mut self, peer: Arc<RegisteredPeer>) {
        for pin in &peer.pins {
            self.by_pin.insert(*pin, peer.clone());
        }
        self.by_url.insert(peer.url.clone(), peer);
    }

    /// Why a peer can't be added to this set, if it can't.
    pub(crate) fn conflict(&self, new: &RegisteredPeer) -> Option<String> {
        let describe = |other: &RegisteredPeer| {
            format!("peers.{} of the {}", other.name, other.registered_in.word())
        };
        if let Some(other) = self.by_name(&new.name) {
            return Some(format!("the name is already that of {}", describe(other)));
        }
        if let Some(other) = self.by_url(&new.url) {
            return Some(format!(
                "the url {} is already that of {}",
                new.url,
                describe(other)
            ));
        }
        let taken = |pin: &Fingerprint| Some((*pin, self.by_pin(pin)?));
        if let Some((pin, other)) = new.pins.iter().find_map(taken) {
            let pin = pin.short();
            return Some(format!(
                "certificate {pin} is already that of {}; each certificate belongs to one peer",
                describe(other)
            ));
        }
        let host = new.url.host();
        let same =
            |other: &&&Arc<RegisteredPeer>| other.authority.is_some() && other.url.host() == host;
        if new.authority.is_some()
            && let Some(other) = self.all().iter().find(same)
        {
            return Some(format!(
                "the host {host} is also that of {}; peers with `ca` need different hosts, because the host in a certificate identifies the peer",
                describe(other)
            ));
        }
        None
    }

    /// The peer to which the first certificate of a chain belongs.
    pub(crate) fn identify(
        &self,
        chain: &[CertificateDer<'_>],
    ) -> Result<Arc<RegisteredPeer>, RejectionReason> {
        let [certificate, intermediates @ ..] = chain else {
            return Err(RejectionReason::NoCertificate);
        };
        let pin = Fingerprint::of(certificate);
        if let Some(peer) = self.by_pin(&pin) {
            return Ok(peer.clone());
        }
        let mut found: Vec<&Arc<RegisteredPeer>> = Vec::new();
        let mut reason = RejectionReason::UnknownCertificate(pin);
        for peer in self.all() {
            let Some(authority) = &peer.authority else {
                continue;
            };
            if !authority.names_peer(certificate) {
                continue;
            }
            match authority.verify_client(certificate, intermediates) {
                Ok(()) => found.push(peer),
                Err(why) => {
                    reason = RejectionReason::NotSignedByAuthority(
                        pin,
                        peer.name.clone(),
                        why.to_string(),
                    );
                }
            }
        }
        match found[..] {
            [] => Err(reason),
            [peer] => Ok(peer.clone()),
            _ => {
                let names: Vec<_> = found.iter().map(|peer| peer.name.as_str()).collect();
                Err(RejectionReason::Ambiguous(pin, names.join(", ")))
            }
        }
    }

    /// The peer with this certificate.
    pub(crate) fn by_pin(&self, pin: &Fingerprint) -> Option<&Arc<RegisteredPeer>> {
        self.by_pin.get(pin)
    }

    /// The peer with this address.
    pub(crate) fn by_url(&self, url: &PeerUrl) -> Option<&Arc<RegisteredPeer>> {
        self.by_url.get(url)
    }

    /// The peer with this name.
    pub(crate) fn by_name(&self, name: &str) -> Option<&Arc<RegisteredPeer>> {
        self.by_url.values().find(|peer| peer.name == name)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_url.is_empty()
    }

    /// All peers, sorted by name.
    pub(crate) fn all(&self) -> Vec<&Arc<RegisteredPeer>> {
        let mut all: Vec<_> = self.by_url.values().collect();
        all.sort_by(|one, other| one.name.cmp(&other.name));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::security::authority::test_ca::Ca;

    fn pin(digit: char) -> String {
        format!("sha256:{}", digit.to_string().repeat(64))
    }

    fn url(name: &str) -> String {
        format!("https://{name}.example.org/api/queues")
    }

    fn peer_set(configs: &[(&str, &[char])]) -> Result<PeerSet> {
        let configs = configs.iter().map(|(name, pins)| {
            let config = PeerConfig {
                url: Some(url(name)),
                certificates: pins.iter().copied().map(pin).collect(),
                allow: vec!["work/echo".into()],
                ..PeerConfig::default()
            };
            ((*name).to_owned(), config)
        });
        PeerSet::load(&configs.collect())
    }

    #[test]
    fn a_pin_takes_precedence_over_authorities_and_a_host_must_be_unique() {
        let ca = Ca::new();
        let both = ["a.example.org", "b.example.org"];
        let sign = |hosts: &[&str]| ca.sign(hosts, &[], (2000, 4000)).0;
        let (of_a, of_both, pinned) = (sign(&both[..1]), sign(&both), sign(&both[..1]));
        let mut rows = [row("a", "a", '1'), row("b", "b", '2'), row("c", "c", '3')];
        for row in &mut rows[..2] {
            row.ca = Some(ca.certificate.pem());
        }
        rows[2].certificates = vec![Fingerprint::of(&pinned)];
        let peers = PeerSet::default().with(rows.to_vec());
        let name = |certificate: CertificateDer<'static>| {
            peers.identify(&[certificate]).map(|peer| peer.name.clone())
        };
        assert_eq!(name(of_a), Ok("a".to_owned()));
        assert_eq!(name(pinned), Ok("c".to_owned()));
        assert!(matches!(name(of_both), Err(RejectionReason::Ambiguous(..))));
        let (expired, _) = ca.sign(&both[..1], &[], (2000, 2001));
        let Err(RejectionReason::NotSignedByAuthority(_, name, why)) = name(expired) else {
            panic!("it has expired")
        };
        assert!(name == "a" && why.contains("xpired"), "{name} {why}");
        assert_eq!(
            peers.identify(&[]).unwrap_err(),
            RejectionReason::NoCertificate
        );
    }

    #[test]
    fn two_peers_with_authorities_on_one_host_conflict() {
        let ca = Ca::new().certificate.pem();
        let (mut one, mut two) = (row("a", "a", '1'), row("b", "b", '2'));
        two.url = "https://a.example.org:5001/api/queues".parse().unwrap();
        assert!(
            PeerSet::default()
                .with(vec![one.clone(), two.clone()])
                .ignored
                .is_empty()
        );
        (one.ca, two.ca) = (Some(ca.clone()), Some(ca));
        let peers = PeerSet::default().with(vec![one, two]);
        let [(name, why)] = &peers.ignored[..] else {
            panic!("{:?}", peers.ignored)
        };
        assert!(name == "b" && why.contains("a.example.org"), "{why}");
    }

    fn row(name: &str, host: &str, digit: char) -> PeerRegistration {
        PeerRegistration {
            name: name.into(),
            url: url(host).parse().unwrap(),
            certificates: vec![Fingerprint::read(&pin(digit)).unwrap().unwrap()],
            ca: None,
            allow: vec!["work/echo".into()],
            private: false,
        }
    }

    fn names(peers: &PeerSet) -> Vec<&str> {
        peers.all().iter().map(|peer| peer.name.as_str()).collect()
    }

    #[test]
    fn both_certificates_of_a_rotation_identify_the_same_peer() {
        let peers = peer_set(&[("a", &['1', '2']), ("b", &['3'])]).unwrap();
        let name = |digit| {
            let pin = Fingerprint::read(&pin(digit)).unwrap().unwrap();
            peers.by_pin(&pin).map(|peer| peer.name.as_str())
        };
        assert_eq!(
            ['1', '2', '3', '4'].map(name),
            [Some("a"), Some("a"), Some("b"), None]
        );
    }

    #[test]
    fn a_certificate_belongs_to_one_peer() {
        let error = peer_set(&[("a", &['1']), ("b", &['1'])]).unwrap_err();
        let words = error.to_string();
        assert!(
            words.contains("peers.b") && words.contains("peers.a"),
            "{words}"
        );
    }

    #[test]
    fn the_database_does_not_override_the_configuration() {
        let configured = peer_set(&[("a", &['1'])]).unwrap();
        for (row, what) in [
            (row("a", "elsewhere", '2'), "name"),
            (row("b", "a", '2'), "url"),
            (row("b", "b", '1'), "certificate"),
        ] {
            let peers = configured.with(vec![row, row_of_c()]);
            assert_eq!(names(&peers), ["a", "c"]);
            let [(_, why)] = &peers.ignored[..] else {
                panic!("{:?}", peers.ignored)
            };
            assert!(
                why.contains(what) && why.contains("peers.a of the configuration"),
                "{why}"
            );
        }
    }

    fn row_of_c() -> PeerRegistration {
        row("c", "c", '3')
    }

    #[test]
    fn the_order_of_rows_does_not_matter() {
        let rows = [row("b", "b", '2'), row("c", "c", '2')];
        for rows in [rows.to_vec(), rows.iter().rev().cloned().collect()] {
            let peers = PeerSet::default().with(rows);
            assert_eq!(names(&peers), ["b"]);
            assert_eq!(peers.ignored[0].0, "c");
        }
    }

    #[test]
    fn a_peer_removed_from_the_database_is_no_longer_registered() {
        let configured = peer_set(&[("a", &['1'])]).unwrap();
        let both = configured.with(vec![row_of_c()]);
        assert_eq!(names(&both), ["a", "c"]);
        assert_eq!(names(&both.with(Vec::new())), ["a"]);
    }
}
