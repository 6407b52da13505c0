//! `[tls]` and `[peers]`: who this peer is, who the others are, and what they may ask for.
//!
//! A peer is *open* with neither of the two: everybody is who he says he is, so only its own machine
//! may come in. With both it is *closed*: an identity is a certificate, and what is not granted is
//! refused. One without the other is a fault, also on the loopback, since peers without certificates
//! could not be told apart; but the peers may be those of the database, so that `[tls]` alone is none
//! before that was looked at.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::settings::Config;
use crate::model::{Fingerprint, Grant, PeerUrl};

/// `[tls]`
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct TlsConfig {
    /// The file of this peer's certificate, in PEM.
    pub certificate: Option<String>,
    /// The file of its key, in PEM; only its owner may be able to read it.
    pub key: Option<String>,
    /// Whether TLS 1.2 is spoken too; by default only 1.3.
    pub allow_tls12: bool,
}

/// `[proxy]`: who ends TLS in front of this peer, which then listens without.
///
/// What the proxy says of a sender's certificate is believed, so nothing but the proxy may be able to
/// connect from its address, and it must put its own header in the place of one that a client sends.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ProxyConfig {
    /// The address from which it connects; with none there is no proxy.
    pub address: Option<IpAddr>,
    /// The header that carries the client's certificate: `X-Sender-SSL-Certificate`, in PEM, as it is, with
    /// tabs for line ends or percent-encoded, which is the default; or `Client-Cert` as in RFC 9440.
    pub header: String,
}

impl Default for ProxyConfig {
    fn default() -> Self {
        Self {
            address: None,
            header: "X-Sender-SSL-Certificate".to_owned(),
        }
    }
}

/// The proxy in front of this peer, and the header in which it says whose certificate it was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Proxy {
    pub(crate) address: IpAddr,
    pub(crate) header: CertificateHeader,
}

/// How a proxy passes on the certificate of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CertificateHeader {
    /// As original peers have it: PEM, with tabs for line ends or percent-encoded.
    SenderCertificate,
    /// RFC 9440: base64 between colons.
    ClientCert,
}

impl CertificateHeader {
    /// Its name, in lower case.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::SenderCertificate => "x-sender-ssl-certificate",
            Self::ClientCert => "client-cert",
        }
    }
}

impl Proxy {
    /// The proxy at this address, which uses that header.
    pub(crate) fn new(address: IpAddr, header: &str) -> Result<Self, String> {
        let known = [
            CertificateHeader::SenderCertificate,
            CertificateHeader::ClientCert,
        ];
        match known
            .into_iter()
            .find(|known| header.eq_ignore_ascii_case(known.name()))
        {
            Some(header) => Ok(Self {
                address: address.to_canonical(),
                header,
            }),
            None => Err(format!(
                "{header:?} is neither \"X-Sender-SSL-Certificate\" nor \"Client-Cert\""
            )),
        }
    }
}

/// `[peers.NAME]`
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct PeerConfig {
    /// Its root queues URL.
    pub url: Option<String>,
    /// The certificates it may show: files in PEM, or `sha256:` and the fingerprint in hexadecimal.
    pub certificates: Vec<String>,
    /// A file with the certificates of authorities, in PEM: the peer may show any certificate that one of
    /// them has signed, for the host of its URL, in its time. Beside `certificates` or instead of them.
    pub ca: Option<String>,
    /// The tasks it may hand to us: `"queue/action"`, `"queue/*"` or `"*"`; none by default.
    pub allow: Vec<String>,
    /// Whether the name in its URL may stand for a private address; not by default. An address in the URL
    /// itself is always taken.
    pub private: bool,
}

impl Config {
    /// The proxy in front of this peer, if there is one.
    pub(crate) fn proxy(&self) -> Result<Option<Proxy>, String> {
        let proxy = self.proxy.address;
        let proxy = proxy.map(|address| Proxy::new(address, &self.proxy.header));
        proxy.transpose()
    }

    /// Whether there are no identities.
    pub(crate) fn is_open(&self) -> bool {
        self.tls.certificate.is_none() && self.tls.key.is_none() && self.peers.is_empty()
    }

    /// What can't work of `[tls]` and `[peers]`, without a look at the files they name.
    pub(super) fn federation_faults(&self) -> Vec<String> {
        const TLS: &str = "[tls] certificate = \"NAME.pem\", key = \"NAME.key\" (--new-certificate NAME makes them)";
        const PEERS: &str = "[peers.NAME] url = \"https://...\", certificates = [\"sha256:...\"], allow = [\"queue/action\"]";
        if self.is_open() && self.proxy.address.is_some() {
            return vec![format!(
                "a proxy says which certificate a sender has, and there are no peers to have one; add {TLS} and {PEERS}"
            )];
        }
        if self.is_open() {
            // Nobody has an identity that could be checked, so nobody but this machine may come in.
            return match self.bind().ip().is_loopback() {
                true => Vec::new(),
                false => vec![format!(
                    "without peers and [tls] this peer serves the loopback only; set bind = \"127.0.0.1:PORT\" (FRESTQ_BIND), or add {TLS} and {PEERS}"
                )],
            };
        }
        let mut faults = Vec::new();
        if let Err(why) = self.proxy() {
            faults.push(format!("proxy.header: {why}"));
        }
        if self.tls.certificate.is_none() || self.tls.key.is_none() {
            faults.push(format!(
                "peers are known by their certificates, and this one needs its own; add {TLS}"
            ));
        }
        let own = self.root_url().ok();
        if own.as_ref().is_some_and(|url| !url.is_https()) {
            faults.push("root_url must start with https:// where there is [tls]".to_owned());
        }
        let mut urls: Vec<(PeerUrl, &str)> = Vec::new();
        for (name, peer) in &self.peers {
            let mut fault = |what: String| faults.push(format!("peers.{name}.{what}"));
            match peer.url.as_deref().map(str::parse::<PeerUrl>) {
                None => fault("url is missing".to_owned()),
                Some(Err(error)) => fault(format!("url: {error}")),
                Some(Ok(url)) if !url.is_https() => {
                    fault("url must start with https://".to_owned());
                }
                Some(Ok(url)) if Some(&url) == own.as_ref() => {
                    fault("url is the one of this peer".to_owned());
                }
                Some(Ok(url)) => {
                    if let Some((_, other)) = urls.iter().find(|(known, _)| *known == url) {
                        fault(format!("url is the one of peers.{other}"));
                    }
                    urls.push((url, name));
                }
            }
            if peer.certificates.is_empty() && peer.ca.is_none() {
                fault("certificates: at least one is needed, or ca".to_owned());
            }
            for pin in &peer.certificates {
                if let Some(Err(why)) = Fingerprint::read(pin) {
                    fault(format!("certificates: {why}"));
                }
            }
            for grant in &peer.allow {
                if let Err(why) = grant.parse::<Grant>() {
                    fault(format!("allow: {why}"));
                }
            }
        }
        faults
    }
}
