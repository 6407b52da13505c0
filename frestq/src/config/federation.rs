//! `[tls]` and `[peers]`: who this peer is, who the others are, and what they may ask for.
//!
//! A peer is *open* with neither of the two: everybody is who he says he is, so only its own machine
//! may come in. With both it is *closed*: an identity is a certificate, and what is not granted is
//! refused. One without the other is a fault, also on the loopback, since peers without certificates
//! could not be told apart; but the peers may be those of the database, so that `[tls]` alone is none
//! before that was looked at.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

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

impl TlsConfig {
    /// Why a build without the feature can't do with `[tls]`, `[peers]` or `[proxy]`.
    pub(crate) const NEEDS_FEATURE: &str = "[tls], [peers] and [proxy] need the feature `tls` of the crate frestq, which this binary was built without";
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
