//! The registered peers, from the configuration and from the database.
//!
//! Where the two contradict each other, the configuration counts: whoever may write to the database
//! while this peer runs can add to what its operator has decided, and not change it.

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
    pub(crate) fn word(self) -> &'static str {
        match self {
            RegisteredIn::Configuration => "configuration",
            RegisteredIn::Database => "database",
        }
    }
}

/// A registered peer.
#[derive(Debug)]
pub(crate) struct RegisteredPeer {
    pub(crate) name: String,
    pub(crate) url: PeerUrl,
    pub(crate) pins: Vec<Fingerprint>,
    /// Who vouches for other certificates of it.
    pub(crate) authority: Option<Arc<Authority>>,
    pub(crate) grants: Vec<Grant>,
    /// Its name may stand for a private address.
    pub(crate) private: bool,
    pub(crate) place: RegisteredIn,
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
            place: RegisteredIn::Configuration,
        })
    }

    /// Takes a peer as the database has it.
    pub(crate) fn registered(row: &PeerRegistration) -> Result<Self, String> {
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
            place: RegisteredIn::Database,
        })
    }

    /// Whether it is reached under the same address and by the same certificates.
    pub(crate) fn is_reached_like(&self, other: &RegisteredPeer) -> bool {
        let authorities = [self, other].map(|member| member.authority.as_ref().map(Arc::as_ptr));
        self.url == other.url && self.pins == other.pins && authorities[0] == authorities[1]
    }

    /// Whether it may hand us this task.
    pub(crate) fn may(&self, queue: &str, action: &str) -> bool {
        self.grants.iter().any(|grant| grant.covers(queue, action))
    }
}

/// Reads a fingerprint, or makes it from the certificate in a file.
fn load(pin: &str) -> Result<Fingerprint, String> {
    match Fingerprint::read(pin) {
        Some(fingerprint) => fingerprint,
        None => CertificateDer::from_pem_file(Path::new(pin))
            .map(|certificate| Fingerprint::of(&certificate))
            .map_err(|error| format!("{pin}: no certificate can be read from it: {error}")),
    }
}

fn grants(allow: &[String]) -> Result<Vec<Grant>, String> {
    allow.iter().map(|grant| grant.parse()).collect()
}

/// The registered peers.
#[derive(Debug, Default)]
pub(crate) struct PeerSet {
    by_pin: HashMap<Fingerprint, Arc<RegisteredPeer>>,
    by_url: HashMap<PeerUrl, Arc<RegisteredPeer>>,
    /// The rows of the database that these were made with.
    pub(crate) registrations: Vec<PeerRegistration>,
    /// Why some of those are not among these.
    pub(crate) overruled: Vec<(String, String)>,
}

impl PeerSet {
    /// Reads the certificates that the configuration names.
    pub(crate) fn load(peers: &BTreeMap<String, PeerConfig>) -> Result<Self> {
        let mut members = Self::default();
        for (name, config) in peers {
            let member = RegisteredPeer::load(name, config)?;
            if let Some(why) = members.clash(&member) {
                return Err(Error::Config(format!("peers.{name}: {why}")));
            }
            members.put(member);
        }
        Ok(members)
    }

    /// The same of the configuration, with these of the database.
    pub(crate) fn with(&self, mut rows: Vec<PeerRegistration>) -> Self {
        // So that all processes that know the same rows come to the same members.
        rows.sort_by(|one, other| one.name.cmp(&other.name));
        let mut members = Self::default();
        for member in self.all() {
            if member.place == RegisteredIn::Configuration {
                members.insert(member.clone());
            }
        }
        for row in &rows {
            let refused = match RegisteredPeer::registered(row) {
                Ok(member) => match members.clash(&member) {
                    None => {
                        members.put(member);
                        continue;
                    }
                    Some(why) => why,
                },
                Err(why) => why,
            };
            members.overruled.push((row.name.clone(), refused));
        }
        members.registrations = rows;
        members
    }

    fn put(&mut self, member: RegisteredPeer) {
        self.insert(Arc::new(member));
    }

    fn insert(&mut self, member: Arc<RegisteredPeer>) {
        for pin in &member.pins {
            self.by_pin.insert(*pin, member.clone());
        }
        self.by_url.insert(member.url.clone(), member);
    }

    /// Why a peer can't be one beside these, if so.
    pub(crate) fn clash(&self, new: &RegisteredPeer) -> Option<String> {
        let at =
            |other: &RegisteredPeer| format!("peers.{} of the {}", other.name, other.place.word());
        if let Some(other) = self.by_name(&new.name) {
            return Some(format!("the name is that of {}", at(other)));
        }
        if let Some(other) = self.by_url(&new.url) {
            return Some(format!("the url {} is that of {}", new.url, at(other)));
        }
        let taken = |pin: &Fingerprint| Some((*pin, self.by_pin(pin)?));
        if let Some((pin, other)) = new.pins.iter().find_map(taken) {
            let pin = pin.short();
            return Some(format!(
                "certificate {pin} is that of {}, and a certificate is one peer",
                at(other)
            ));
        }
        let host = new.url.host();
        let same =
            |other: &&&Arc<RegisteredPeer>| other.authority.is_some() && other.url.host() == host;
        if new.authority.is_some()
            && let Some(other) = self.all().iter().find(same)
        {
            return Some(format!(
                "the host {host} is that of {} too, and by the name in its certificate a peer with `ca` is known",
                at(other)
            ));
        }
        None
    }

    /// The peer whose certificate this is, the first one of a chain.
    pub(crate) fn identify(
        &self,
        chain: &[CertificateDer<'_>],
    ) -> Result<Arc<RegisteredPeer>, RejectionReason> {
        let [certificate, others @ ..] = chain else {
            return Err(RejectionReason::NoCertificate);
        };
        let pin = Fingerprint::of(certificate);
        if let Some(member) = self.by_pin(&pin) {
            return Ok(member.clone());
        }
        let mut found: Vec<&Arc<RegisteredPeer>> = Vec::new();
        let mut cause = RejectionReason::UnknownCertificate(pin);
        for member in self.all() {
            let Some(authority) = &member.authority else {
                continue;
            };
            if !authority.names(certificate) {
                continue;
            }
            match authority.knows_client(certificate, others) {
                Ok(()) => found.push(member),
                Err(why) => {
                    cause =
                        RejectionReason::NotVouchedFor(pin, member.name.clone(), why.to_string());
                }
            }
        }
        match found[..] {
            [] => Err(cause),
            [member] => Ok(member.clone()),
            _ => {
                let names: Vec<_> = found.iter().map(|member| member.name.as_str()).collect();
                Err(RejectionReason::Ambiguous(pin, names.join(", ")))
            }
        }
    }

    pub(crate) fn by_pin(&self, pin: &Fingerprint) -> Option<&Arc<RegisteredPeer>> {
        self.by_pin.get(pin)
    }

    pub(crate) fn by_url(&self, url: &PeerUrl) -> Option<&Arc<RegisteredPeer>> {
        self.by_url.get(url)
    }

    pub(crate) fn by_name(&self, name: &str) -> Option<&Arc<RegisteredPeer>> {
        self.by_url.values().find(|member| member.name == name)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_url.is_empty()
    }

    /// All of them, by name.
    pub(crate) fn all(&self) -> Vec<&Arc<RegisteredPeer>> {
        let mut all: Vec<_> = self.by_url.values().collect();
        all.sort_by(|one, other| one.name.cmp(&other.name));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::security::authority::made::Ca;

    fn pin(digit: char) -> String {
        format!("sha256:{}", digit.to_string().repeat(64))
    }

    fn url(name: &str) -> String {
        format!("https://{name}.example.org/api/queues")
    }

    fn members(peers: &[(&str, &[char])]) -> Result<PeerSet> {
        let peers = peers.iter().map(|(name, pins)| {
            let config = PeerConfig {
                url: Some(url(name)),
                certificates: pins.iter().copied().map(pin).collect(),
                allow: vec!["work/echo".into()],
                ..PeerConfig::default()
            };
            ((*name).to_owned(), config)
        });
        PeerSet::load(&peers.collect())
    }

    #[test]
    fn a_pin_goes_before_the_authorities_and_a_name_must_be_one_peers() {
        let ca = Ca::new();
        let both = ["a.example.org", "b.example.org"];
        let sign = |hosts: &[&str]| ca.sign(hosts, &[], (2000, 4000)).0;
        let (of_a, of_both, pinned) = (sign(&both[..1]), sign(&both), sign(&both[..1]));
        let mut rows = [row("a", "a", '1'), row("b", "b", '2'), row("c", "c", '3')];
        for row in &mut rows[..2] {
            row.ca = Some(ca.certificate.pem());
        }
        rows[2].certificates = vec![Fingerprint::of(&pinned)];
        let members = PeerSet::default().with(rows.to_vec());
        let name = |certificate: CertificateDer<'static>| {
            members
                .identify(&[certificate])
                .map(|member| member.name.clone())
        };
        assert_eq!(name(of_a), Ok("a".to_owned()));
        assert_eq!(name(pinned), Ok("c".to_owned()));
        assert!(matches!(name(of_both), Err(RejectionReason::Ambiguous(..))));
        let (expired, _) = ca.sign(&both[..1], &[], (2000, 2001));
        let Err(RejectionReason::NotVouchedFor(_, name, why)) = name(expired) else {
            panic!("it is over")
        };
        assert!(name == "a" && why.contains("xpired"), "{name} {why}");
        assert_eq!(
            members.identify(&[]).unwrap_err(),
            RejectionReason::NoCertificate
        );
    }

    #[test]
    fn two_peers_with_authorities_on_one_host_are_refused() {
        let ca = Ca::new().certificate.pem();
        let (mut one, mut two) = (row("a", "a", '1'), row("b", "b", '2'));
        two.url = "https://a.example.org:5001/api/queues".parse().unwrap();
        assert!(
            PeerSet::default()
                .with(vec![one.clone(), two.clone()])
                .overruled
                .is_empty()
        );
        (one.ca, two.ca) = (Some(ca.clone()), Some(ca));
        let members = PeerSet::default().with(vec![one, two]);
        let [(name, why)] = &members.overruled[..] else {
            panic!("{:?}", members.overruled)
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

    fn names(members: &PeerSet) -> Vec<&str> {
        members.all().iter().map(|m| m.name.as_str()).collect()
    }

    #[test]
    fn both_certificates_of_a_rotation_are_the_same_peer() {
        let members = members(&[("a", &['1', '2']), ("b", &['3'])]).unwrap();
        let name = |digit| {
            let pin = Fingerprint::read(&pin(digit)).unwrap().unwrap();
            members.by_pin(&pin).map(|member| member.name.as_str())
        };
        assert_eq!(
            ['1', '2', '3', '4'].map(name),
            [Some("a"), Some("a"), Some("b"), None]
        );
    }

    #[test]
    fn a_certificate_is_one_peer() {
        let error = members(&[("a", &['1']), ("b", &['1'])]).unwrap_err();
        let words = error.to_string();
        assert!(
            words.contains("peers.b") && words.contains("peers.a"),
            "{words}"
        );
    }

    #[test]
    fn what_the_configuration_registers_is_not_overruled_by_the_database() {
        let configured = members(&[("a", &['1'])]).unwrap();
        for (row, what) in [
            (row("a", "elsewhere", '2'), "name"),
            (row("b", "a", '2'), "url"),
            (row("b", "b", '1'), "certificate"),
        ] {
            let members = configured.with(vec![row, row_of_c()]);
            assert_eq!(names(&members), ["a", "c"]);
            let [(_, why)] = &members.overruled[..] else {
                panic!("{:?}", members.overruled)
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
    fn the_order_of_rows_makes_no_difference() {
        let rows = [row("b", "b", '2'), row("c", "c", '2')];
        for rows in [rows.to_vec(), rows.iter().rev().cloned().collect()] {
            let members = PeerSet::default().with(rows);
            assert_eq!(names(&members), ["b"]);
            assert_eq!(members.overruled[0].0, "c");
        }
    }

    #[test]
    fn what_the_database_has_no_more_is_no_member_any_more() {
        let configured = members(&[("a", &['1'])]).unwrap();
        let both = configured.with(vec![row_of_c()]);
        assert_eq!(names(&both), ["a", "c"]);
        assert_eq!(names(&both.with(Vec::new())), ["a"]);
    }
}
