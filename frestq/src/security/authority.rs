//! A peer that is known by the word of authorities, and not by its certificate alone.

use std::sync::Arc;

use rustls::{
    RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier, verify_server_name},
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
    server::{ParsedCertificate, WebPkiClientVerifier, danger::ClientCertVerifier},
};

use crate::model::PeerUrl;

/// Knows a peer by any certificate that has the host of its URL as a name, is valid today, and whose
/// chain leads to one of the authorities'.
///
/// Where a certificate says what it is good for, that has to be the side on which it is shown: peers
/// are client and server both. Revocation is not looked at; what is revoked has to leave the bundle.
#[derive(Debug)]
pub(crate) struct Authority {
    host: ServerName<'static>,
    servers: Arc<WebPkiServerVerifier>,
    clients: Arc<dyn ClientCertVerifier>,
}

impl Authority {
    /// Of the peer with this URL, with the certificates of the authorities in PEM.
    pub(crate) fn new(url: &PeerUrl, bundle: &str) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
            let certificate = certificate.map_err(|error| error.to_string())?;
            let added = roots.add(certificate);
            added.map_err(|error| format!("a certificate can't be used: {error}"))?;
        }
        if roots.is_empty() {
            return Err("no certificate can be read from it".to_owned());
        }
        let host = url.host();
        let host = ServerName::try_from(host.clone())
            .map_err(|_| format!("{host:?} can't be the name in a certificate"))?;
        let (roots, provider) = (Arc::new(roots), Arc::new(aws_lc_rs::default_provider()));
        let servers = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone());
        let clients = WebPkiClientVerifier::builder_with_provider(roots, provider);
        Ok(Self {
            host,
            servers: servers.build().map_err(|error| error.to_string())?,
            clients: clients.build().map_err(|error| error.to_string())?,
        })
    }

    /// Whether a certificate has the peer's name; what that is worth, its chain says.
    pub(crate) fn names(&self, certificate: &CertificateDer<'_>) -> bool {
        ParsedCertificate::try_from(certificate)
            .is_ok_and(|parsed| verify_server_name(&parsed, &self.host).is_ok())
    }

    /// Whether the peer is who connects to us with this certificate and those behind it.
    pub(crate) fn knows_client(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
    ) -> Result<(), rustls::Error> {
        let now = UnixTime::now();
        verify_server_name(&ParsedCertificate::try_from(certificate)?, &self.host)?;
        self.clients
            .verify_client_cert(certificate, others, now)
            .map(drop)
    }

    /// Whether the peer is whom we have reached.
    pub(crate) fn knows_server(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
    ) -> Result<(), rustls::Error> {
        self.servers
            .verify_server_cert(certificate, others, &self.host, &[], UnixTime::now())
            .map(drop)
    }
}

/// Authorities and what they sign, for tests.
#[cfg(test)]
pub(crate) mod made {
    use rcgen::{
        BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    };
    use rustls::pki_types::CertificateDer;

    /// An authority that may sign others.
    pub(crate) struct Ca {
        pub(crate) certificate: rcgen::Certificate,
        issuer: Issuer<'static, KeyPair>,
    }

    fn ca_params() -> CertificateParams {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    }

    impl Ca {
        pub(crate) fn new() -> Self {
            let key = KeyPair::generate().unwrap();
            let certificate = ca_params().self_signed(&key).unwrap();
            let issuer = Issuer::new(ca_params(), key);
            Self {
                certificate,
                issuer,
            }
        }

        /// One that this one vouches for.
        pub(crate) fn below(&self) -> Self {
            let key = KeyPair::generate().unwrap();
            let mut params = ca_params();
            params
                .distinguished_name
                .push(rcgen::DnType::CommonName, "below");
            let certificate = params.signed_by(&key, &self.issuer).unwrap();
            let issuer = Issuer::new(params, key);
            Self {
                certificate,
                issuer,
            }
        }

        /// A certificate for these hosts, good for the given purposes, or for any.
        pub(crate) fn sign(
            &self,
            hosts: &[&str],
            purposes: &[ExtendedKeyUsagePurpose],
            years: (i32, i32),
        ) -> (CertificateDer<'static>, KeyPair) {
            let hosts: Vec<_> = hosts.iter().map(|host| (*host).to_owned()).collect();
            let mut params = CertificateParams::new(hosts).unwrap();
            params.extended_key_usages = purposes.to_vec();
            params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
            params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
            let key = KeyPair::generate().unwrap();
            let certificate = params.signed_by(&key, &self.issuer).unwrap();
            (certificate.der().clone(), key)
        }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};

    use super::{made::Ca, *};

    const YEARS: (i32, i32) = (2000, 4000);

    fn authority(host: &str, ca: &Ca) -> Authority {
        let url = format!("https://{host}:5000/api/queues").parse().unwrap();
        Authority::new(&url, &ca.certificate.pem()).unwrap()
    }

    /// Whether it is known as a client, and as a server.
    fn known(authority: &Authority, chain: &[CertificateDer<'_>]) -> (bool, bool) {
        let client = authority.knows_client(&chain[0], &chain[1..]);
        let server = authority.knows_server(&chain[0], &chain[1..]);
        (client.is_ok(), server.is_ok())
    }

    #[test]
    fn a_peer_is_known_by_the_host_of_its_url_in_a_certificate_of_the_authority() {
        let ca = Ca::new();
        for host in ["b.example.org", "127.0.0.1", "[::1]"] {
            let authority = authority(host, &ca);
            let name = host.trim_matches(['[', ']']);
            let (good, _) = ca.sign(&["other.example.org", name], &[], YEARS);
            assert_eq!(
                known(&authority, std::slice::from_ref(&good)),
                (true, true),
                "{host}"
            );
            assert!(authority.names(&good));
            let (foreign, _) = ca.sign(&["c.example.org"], &[], YEARS);
            assert_eq!(known(&authority, &[foreign]), (false, false), "{host}");
            let (forged, _) = Ca::new().sign(&[name], &[], YEARS);
            assert_eq!(known(&authority, &[forged]), (false, false), "{host}");
        }
    }

    #[test]
    fn a_chain_may_have_links() {
        let ca = Ca::new();
        let (middle, authority) = (ca.below(), authority("b.example.org", &ca));
        let (leaf, _) = middle.sign(&["b.example.org"], &[], YEARS);
        let link = middle.certificate.der().clone();
        assert_eq!(known(&authority, &[leaf.clone(), link]), (true, true));
        assert_eq!(known(&authority, &[leaf]), (false, false));
    }

    #[test]
    fn a_certificate_counts_only_in_its_time() {
        let ca = Ca::new();
        let authority = authority("b.example.org", &ca);
        for years in [(2000, 2001), (3000, 4000)] {
            let (leaf, _) = ca.sign(&["b.example.org"], &[], years);
            assert_eq!(known(&authority, &[leaf]), (false, false), "{years:?}");
        }
    }

    #[test]
    fn a_certificate_counts_only_for_what_it_is_good_for() {
        let ca = Ca::new();
        let authority = authority("b.example.org", &ca);
        for (purposes, expected) in [
            (vec![ClientAuth], (true, false)),
            (vec![ServerAuth], (false, true)),
            (vec![ClientAuth, ServerAuth], (true, true)),
        ] {
            let (leaf, _) = ca.sign(&["b.example.org"], &purposes, YEARS);
            assert_eq!(known(&authority, &[leaf]), expected, "{purposes:?}");
        }
    }

    #[test]
    fn a_bundle_without_a_certificate_is_refused() {
        let url = "https://b.example.org/api/queues".parse().unwrap();
        for text in ["", "b.pem"] {
            assert!(Authority::new(&url, text).is_err(), "{text:?}");
        }
    }
}
