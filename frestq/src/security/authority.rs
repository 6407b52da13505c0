//! Verification of peers whose certificates are issued by authorities, instead of pinned one by
//! one.

use std::sync::Arc;

use rustls::{
    RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier, verify_server_name},
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
    server::{ParsedCertificate, WebPkiClientVerifier, danger::ClientCertVerifier},
};

use crate::model::PeerUrl;

/// The authorities of one peer. They identify it by any certificate that names the host of its
/// URL, is currently valid, and whose chain leads to one of them.
///
/// If a certificate limits its extended key usage, it must allow the role in which it is shown,
/// client or server; peers are both. Revocation is not checked: remove a revoked authority from
/// the bundle.
#[derive(Debug)]
pub(crate) struct Authority {
    host: ServerName<'static>,
    servers: Arc<WebPkiServerVerifier>,
    clients: Arc<dyn ClientCertVerifier>,
}

impl Authority {
    /// The authorities of the peer with this URL; `bundle` contains their certificates in PEM.
    pub(crate) fn new(url: &PeerUrl, bundle: &str) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
            let certificate = certificate.map_err(|error| error.to_string())?;
            let added = roots.add(certificate);
            added.map_err(|error| format!("a certificate can't be used: {error}"))?;
        }
        if roots.is_empty() {
            return Err("it contains no certificate in PEM".to_owned());
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

    /// Whether a certificate names the peer's host. This does not verify its chain.
    pub(crate) fn names_peer(&self, certificate: &CertificateDer<'_>) -> bool {
        ParsedCertificate::try_from(certificate)
            .is_ok_and(|parsed| verify_server_name(&parsed, &self.host).is_ok())
    }

    /// Verifies the certificate chain of a client as that of the peer.
    pub(crate) fn verify_client(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> Result<(), rustls::Error> {
        let now = UnixTime::now();
        verify_server_name(&ParsedCertificate::try_from(certificate)?, &self.host)?;
        self.clients
            .verify_client_cert(certificate, intermediates, now)
            .map(drop)
    }

    /// Verifies the certificate chain of a server as that of the peer.
    pub(crate) fn verify_server(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> Result<(), rustls::Error> {
        self.servers
            .verify_server_cert(certificate, intermediates, &self.host, &[], UnixTime::now())
            .map(drop)
    }
}

/// Authorities and certificates for tests.
#[cfg(test)]
pub(crate) mod test_ca {
    use rcgen::{
        BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    };
    use rustls::pki_types::CertificateDer;

    /// An authority that can sign certificates.
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

        /// An intermediate authority, signed by this one.
        pub(crate) fn intermediate(&self) -> Self {
            let key = KeyPair::generate().unwrap();
            let mut params = ca_params();
            params
                .distinguished_name
                .push(rcgen::DnType::CommonName, "intermediate");
            let certificate = params.signed_by(&key, &self.issuer).unwrap();
            let issuer = Issuer::new(params, key);
            Self {
                certificate,
                issuer,
            }
        }

        /// A certificate for these hosts with these extended key usages; with none, it is
        /// unlimited.
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

    use super::{test_ca::Ca, *};

    const YEARS: (i32, i32) = (2000, 4000);

    fn authority(host: &str, ca: &Ca) -> Authority {
        let url = format!("https://{host}:5000/api/queues").parse().unwrap();
        Authority::new(&url, &ca.certificate.pem()).unwrap()
    }

    /// Whether the chain is accepted from a client, and from a server.
    fn verified(authority: &Authority, chain: &[CertificateDer<'_>]) -> (bool, bool) {
        let client = authority.verify_client(&chain[0], &chain[1..]);
        let server = authority.verify_server(&chain[0], &chain[1..]);
        (client.is_ok(), server.is_ok())
    }

    #[test]
    fn a_peer_is_identified_by_the_host_of_its_url_in_a_certificate_of_the_authority() {
        let ca = Ca::new();
        for host in ["b.example.org", "127.0.0.1", "[::1]"] {
            let authority = authority(host, &ca);
            let name = host.trim_matches(['[', ']']);
            let (good, _) = ca.sign(&["other.example.org", name], &[], YEARS);
            assert_eq!(
                verified(&authority, std::slice::from_ref(&good)),
                (true, true),
                "{host}"
            );
            assert!(authority.names_peer(&good));
            let (foreign, _) = ca.sign(&["c.example.org"], &[], YEARS);
            assert_eq!(verified(&authority, &[foreign]), (false, false), "{host}");
            let (forged, _) = Ca::new().sign(&[name], &[], YEARS);
            assert_eq!(verified(&authority, &[forged]), (false, false), "{host}");
        }
    }

    #[test]
    fn a_chain_may_have_intermediates() {
        let ca = Ca::new();
        let (middle, authority) = (ca.intermediate(), authority("b.example.org", &ca));
        let (leaf, _) = middle.sign(&["b.example.org"], &[], YEARS);
        let intermediate = middle.certificate.der().clone();
        assert_eq!(
            verified(&authority, &[leaf.clone(), intermediate]),
            (true, true)
        );
        assert_eq!(verified(&authority, &[leaf]), (false, false));
    }

    #[test]
    fn a_certificate_is_accepted_only_while_it_is_valid() {
        let ca = Ca::new();
        let authority = authority("b.example.org", &ca);
        for years in [(2000, 2001), (3000, 4000)] {
            let (leaf, _) = ca.sign(&["b.example.org"], &[], years);
            assert_eq!(verified(&authority, &[leaf]), (false, false), "{years:?}");
        }
    }

    #[test]
    fn a_certificate_is_accepted_only_for_its_extended_key_usages() {
        let ca = Ca::new();
        let authority = authority("b.example.org", &ca);
        for (purposes, expected) in [
            (vec![ClientAuth], (true, false)),
            (vec![ServerAuth], (false, true)),
            (vec![ClientAuth, ServerAuth], (true, true)),
        ] {
            let (leaf, _) = ca.sign(&["b.example.org"], &purposes, YEARS);
            assert_eq!(verified(&authority, &[leaf]), expected, "{purposes:?}");
        }
    }

    #[test]
    fn a_bundle_without_a_certificate_is_rejected() {
        let url = "https://b.example.org/api/queues".parse().unwrap();
        for text in ["", "b.pem"] {
            assert!(Authority::new(&url, text).is_err(), "{text:?}");
        }
    }
}
