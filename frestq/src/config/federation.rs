//! `[tls]`, `[proxy]` and `[peers]`: this peer's identity, the registered peers, and their grants.
//!
//! Without `[tls]` and `[peers]`, a peer is in *open mode*: senders have no verified identity, so
//! only the loopback may connect. With both, every sender needs the certificate of a registered
//! peer and a grant for the action. One without the other is a fault, also on the loopback,
//! because peers without certificates can't be distinguished. `[tls]` alone is accepted here: the
//! peers may be registered in the database, which is checked at start.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// `[tls]`
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct TlsConfig {
    /// The file with this peer's certificate, in PEM.
    pub certificate: Option<String>,
    /// The file with its private key, in PEM. Only its owner may have access to it.
    pub key: Option<String>,
    /// Whether TLS 1.2 is accepted too; by default only 1.3.
    pub allow_tls12: bool,
}

impl TlsConfig {
    /// Why a build without the feature can't do with `[tls]`, `[peers]` or `[proxy]`.
    pub(crate) const NEEDS_FEATURE: &str = "[tls], [peers] and [proxy] need the feature `tls` of the crate frestq, which this binary was built without";
}

/// `[proxy]`: the reverse proxy that terminates TLS for this peer, which then listens without TLS.
///
/// The peer trusts the proxy's header with the sender's certificate. So only the proxy may be able
/// to connect from its address, and it must overwrite that header if a client sends one.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ProxyConfig {
    /// The address from which the proxy connects; without it there is no proxy.
    pub address: Option<IpAddr>,
    /// The header that carries the client's certificate: `X-Sender-SSL-Certificate`, the default,
    /// in PEM (plain, with tabs for line ends, or percent-encoded), or `Client-Cert` as in RFC
    /// 9440.
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

/// The proxy in front of this peer, and the header in which it passes on a client's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Proxy {
    pub(crate) address: IpAddr,
    pub(crate) header: CertificateHeader,
}

/// The header in which a proxy passes on the certificate of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CertificateHeader {
    /// The header that original peers use: PEM, with tabs for line ends or percent-encoded.
    SenderCertificate,
    /// RFC 9440: base64 between colons.
    ClientCert,
}

impl CertificateHeader {
    /// The header's name, in lower case.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::SenderCertificate => "x-sender-ssl-certificate",
            Self::ClientCert => "client-cert",
        }
    }
}

impl Proxy {
    /// A proxy at this address that uses the given header.
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
    /// The peer's root queues URL.
    pub url: Option<String>,
    /// The peer's certificates: files in PEM, or `sha256:` and the fingerprint in hexadecimal.
    pub certificates: Vec<String>,
    /// A file with certificates of authorities, in PEM. The peer may show any valid certificate
    /// for the host of its URL that one of them has signed. In addition to `certificates` or
    /// instead.
    pub ca: Option<String>,
    /// The actions it may request: `"queue/action"`, `"queue/*"` or `"*"`; none by default.
    pub allow: Vec<String>,
    /// Whether the host name in its URL may resolve to a private address; not by default. A
    /// literal address in the URL is always allowed.
    pub private: bool,
}
