//! Mutual TLS between peers: our certificate, and how either side knows whom it has reached.
//!
//! Both verifiers check that the other side holds the key of the certificate it shows. Whose that
//! certificate is, the client knows before it sends anything; the server takes any, or none, and the
//! inbox decides what comes of it. Names, dates and chains are left aside, unless the peer is registered
//! with authorities. Sessions are not resumed, so each
//! connection proves its key anew.

use std::{fs, io, os::unix::fs::PermissionsExt, path::Path, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, SignatureScheme,
    SupportedProtocolVersion,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    server::{
        NoServerSessionStorage,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};

pub(crate) use rustls::ServerConfig;

use super::authority::Authority;
use crate::{
    config::federation::TlsConfig,
    model::{
        Fingerprint,
        error::{Error, Result},
    },
};

/// TLS 1.3.
const NEWEST: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];
/// TLS 1.3, or 1.2 with those that know no better.
const BOTH: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];

/// This peer's certificate with its key.
#[derive(Debug)]
pub(crate) struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    versions: &'static [&'static SupportedProtocolVersion],
}

impl Identity {
    /// Reads the files that the configuration names; none in open mode.
    pub(crate) fn load(config: &TlsConfig) -> Result<Option<Self>> {
        let (Some(certificate), Some(key)) = (&config.certificate, &config.key) else {
            return Ok(None);
        };
        let fault = |key: &str, file: &str, why: &dyn std::fmt::Display| {
            Error::Config(format!("tls.{key}: {file}: {why}"))
        };
        let chain = CertificateDer::pem_file_iter(Path::new(certificate))
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| fault("certificate", certificate, &error))?;
        if chain.is_empty() {
            return Err(fault(
                "certificate",
                certificate,
                &"it holds no certificate",
            ));
        }
        let mode = fs::metadata(key)
            .map_err(|error| fault("key", key, &error))?
            .permissions()
            .mode();
        if mode & 0o077 != 0 {
            let why = format!(
                "others than its owner may use it (mode {:04o}); chmod 600 {key}",
                mode & 0o7777
            );
            return Err(fault("key", key, &why));
        }
        let key_file = key;
        let key = PrivateKeyDer::from_pem_file(Path::new(key))
            .map_err(|error| fault("key", key_file, &error))?;
        let identity = Self {
            chain,
            key,
            versions: match config.allow_tls12 {
                true => BOTH,
                false => NEWEST,
            },
        };
        // A key of another certificate should not first show when somebody connects.
        identity.server()?;
        Ok(Some(identity))
    }

    /// What our other peers have to register.
    pub(crate) fn fingerprint(&self) -> Option<Fingerprint> {
        self.chain
            .first()
            .map(|certificate| Fingerprint::of(certificate))
    }

    /// For those who connect to us.
    pub(crate) fn server(&self) -> Result<ServerConfig> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = AnyClient(provider.clone());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(self.versions)
            .map_err(unusable)?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .map_err(unusable)?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    /// For a connection to this server and no other.
    pub(crate) fn client(&self, expected: Expected) -> Result<ClientConfig> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = OneServer {
            expected,
            provider: provider.clone(),
        };
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(self.versions)
            .map_err(unusable)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())
            .map_err(unusable)?;
        config.resumption = Resumption::disabled();
        Ok(config)
    }
}

fn unusable(error: rustls::Error) -> Error {
    let why = match error {
        rustls::Error::InconsistentKeys(_) => {
            "the key is not the one of the certificate".to_owned()
        }
        other => other.to_string(),
    };
    Error::Config(format!("tls: {why}"))
}

macro_rules! handshake_signatures_are_verified {
    ($provider:ident) => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            let algorithms = &self.$provider().signature_verification_algorithms;
            verify_tls12_signature(message, certificate, signed, algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            let algorithms = &self.$provider().signature_verification_algorithms;
            verify_tls13_signature(message, certificate, signed, algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.$provider()
                .signature_verification_algorithms
                .supported_schemes()
        }
    };
}

/// Takes whoever holds the key of the certificate he shows, or shows none.
#[derive(Debug)]
struct AnyClient(Arc<CryptoProvider>);

impl AnyClient {
    fn provider(&self) -> &CryptoProvider {
        &self.0
    }
}

impl ClientCertVerifier for AnyClient {
    /// The application's own views may be for people without certificates.
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    handshake_signatures_are_verified!(provider);
}

/// By what a server is known.
#[derive(Debug, Default)]
pub(crate) struct Expected {
    /// The certificates of its own.
    pub(crate) pins: Vec<Fingerprint>,
    /// Who vouches for others.
    pub(crate) authority: Option<Arc<Authority>>,
    /// The one of all these that the task wants.
    pub(crate) only: Option<Fingerprint>,
}

impl Expected {
    /// Why this certificate, with those behind it, is not one of the server, if so.
    fn refuse(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
    ) -> Option<WrongServer> {
        let shown = Fingerprint::of(certificate);
        if let Some(only) = self.only.filter(|only| *only != shown) {
            return Some(WrongServer::NotPinned { shown, only });
        }
        if self.pins.contains(&shown) {
            return None;
        }
        match &self.authority {
            None => Some(WrongServer::Unregistered(shown)),
            Some(authority) => match authority.knows_server(certificate, others) {
                Ok(()) => None,
                Err(why) => Some(WrongServer::NotVouchedFor(shown, why)),
            },
        }
    }
}

/// Takes exactly one peer.
#[derive(Debug)]
struct OneServer {
    expected: Expected,
    provider: Arc<CryptoProvider>,
}

impl OneServer {
    fn provider(&self) -> &CryptoProvider {
        &self.provider
    }
}

impl ServerCertVerifier for OneServer {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.expected.refuse(certificate, others) {
            None => Ok(ServerCertVerified::assertion()),
            Some(why) => {
                let why = rustls::OtherError(Arc::new(why));
                Err(CertificateError::Other(why).into())
            }
        }
    }

    handshake_signatures_are_verified!(provider);
}

/// What the operator reads in the peer's last error; rustls shows only the debug form of causes.
pub(crate) enum WrongServer {
    Unregistered(Fingerprint),
    NotVouchedFor(Fingerprint, rustls::Error),
    NotPinned {
        shown: Fingerprint,
        only: Fingerprint,
    },
}

impl WrongServer {
    /// Whether an attempt failed for the pin of its task, and says nothing of the peer.
    pub(crate) fn missed_the_pin(error: &(dyn std::error::Error + 'static)) -> bool {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            // It hides what it was made of from its sources.
            let inner = io.get_ref();
            return inner.is_some_and(|inner| Self::missed_the_pin(inner));
        }
        match error.downcast_ref::<rustls::Error>() {
            Some(rustls::Error::InvalidCertificate(CertificateError::Other(cause))) => {
                matches!(cause.0.downcast_ref(), Some(Self::NotPinned { .. }))
            }
            Some(_) => false,
            None => error.source().is_some_and(Self::missed_the_pin),
        }
    }
}

impl std::fmt::Debug for WrongServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unregistered(shown) => write!(f, "{shown} is not registered for this peer"),
            Self::NotPinned { shown, only } => {
                write!(
                    f,
                    "{shown} is not the certificate that the task is pinned to, {only}"
                )
            }
            Self::NotVouchedFor(shown, why) => write!(
                f,
                "{shown} is not registered for this peer, and its authorities don't stand by it: {why}"
            ),
        }
    }
}

impl std::fmt::Display for WrongServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for WrongServer {}

#[cfg(test)]
mod tests {
    use rustls::{
        client::ResolvesClientCert,
        server::{ClientHello, ResolvesServerCert},
        sign::CertifiedKey,
    };
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;
    use crate::{
        http::connection::Connection,
        model::PeerRegistration,
        security::{registered::PeerSet, rejections::RejectionReason, trust::TrustSnapshot},
    };

    /// TLS 1.2 alone.
    const OLD: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];

    fn identity(versions: &'static [&'static SupportedProtocolVersion]) -> Identity {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::default()
            .self_signed(&key)
            .unwrap();
        Identity {
            chain: vec![certificate.der().clone()],
            key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            versions,
        }
    }

    /// The server of this identity.
    fn only(server: &Identity) -> Expected {
        Expected {
            pins: vec![server.fingerprint().unwrap()],
            ..Expected::default()
        }
    }

    /// The certificate of one with the key of the other.
    #[derive(Debug)]
    struct Stolen(Arc<CertifiedKey>);

    impl Stolen {
        fn new(certificate: &Identity, key: &Identity) -> Arc<Self> {
            let key = aws_lc_rs::sign::any_supported_type(&key.key).unwrap();
            Arc::new(Self(Arc::new(CertifiedKey::new(
                certificate.chain.clone(),
                key,
            ))))
        }
    }

    impl ResolvesClientCert for Stolen {
        fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
            Some(self.0.clone())
        }

        fn has_certs(&self) -> bool {
            true
        }
    }

    impl ResolvesServerCert for Stolen {
        fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
            Some(self.0.clone())
        }
    }

    /// Shows no certificate.
    #[derive(Debug)]
    struct Nobody;

    impl ResolvesClientCert for Nobody {
        fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
            None
        }

        fn has_certs(&self) -> bool {
            false
        }
    }

    /// What the server saw, or why not: the certificate, and the bytes that were sent.
    type Seen = Result<(Option<Fingerprint>, Vec<u8>), String>;

    /// A client that sends "secret" to a server.
    async fn meet(client: ClientConfig, server: ServerConfig) -> (io::Result<()>, Seen) {
        let (near, far): (DuplexStream, DuplexStream) = duplex(64 * 1024);
        let client = async {
            let name = ServerName::try_from("127.0.0.1").unwrap();
            let connector = TlsConnector::from(Arc::new(client));
            let mut stream = connector.connect(name, near).await?;
            stream.write_all(b"secret").await?;
            stream.shutdown().await
        };
        let server = async {
            let acceptor = TlsAcceptor::from(Arc::new(server));
            let mut stream = acceptor.accept(far).await.map_err(|e| e.to_string())?;
            let mut bytes = Vec::new();
            let read = stream.read_to_end(&mut bytes).await;
            read.map_err(|e| e.to_string())?;
            let shown = stream.get_ref().1.peer_certificates();
            let leaf = shown.and_then(<[_]>::first);
            Ok((leaf.map(|certificate| Fingerprint::of(certificate)), bytes))
        };
        tokio::join!(client, server)
    }

    #[tokio::test]
    async fn each_side_learns_the_certificate_of_the_other_whatever_the_version() {
        for versions in [NEWEST, BOTH, OLD] {
            let (a, b) = (identity(versions), identity(BOTH));
            let client = a.client(only(&b)).unwrap();
            let (sent, seen) = meet(client, b.server().unwrap()).await;
            sent.unwrap();
            assert_eq!(seen.unwrap(), (a.fingerprint(), b"secret".to_vec()));
        }
    }

    #[tokio::test]
    async fn tls_1_2_is_spoken_only_where_it_is_allowed() {
        let (a, b) = (identity(OLD), identity(NEWEST));
        let client = a.client(only(&b)).unwrap();
        let (sent, seen) = meet(client, b.server().unwrap()).await;
        assert!(sent.is_err() && seen.is_err());
    }

    #[tokio::test]
    async fn not_a_byte_goes_to_a_server_with_another_certificate() {
        let [a, b, other] = [NEWEST, NEWEST, NEWEST].map(identity);
        for pins in [vec![], vec![other.fingerprint().unwrap()]] {
            let (sent, seen) = meet(
                a.client(Expected {
                    pins,
                    ..Expected::default()
                })
                .unwrap(),
                b.server().unwrap(),
            )
            .await;
            let words = sent.unwrap_err().to_string();
            assert!(
                words.contains(&b.fingerprint().unwrap().to_string()),
                "{words}"
            );
            assert!(seen.is_err(), "{seen:?}");
        }
    }

    #[tokio::test]
    async fn of_several_certificates_of_a_peer_only_the_wanted_one_will_do() {
        let [a, b, other] = [NEWEST, NEWEST, NEWEST].map(identity);
        let pins = vec![b.fingerprint().unwrap(), other.fingerprint().unwrap()];
        for (only, good) in [(&b, true), (&other, false)] {
            let expected = Expected {
                pins: pins.clone(),
                only: only.fingerprint(),
                ..Expected::default()
            };
            let client = a.client(expected).unwrap();
            let (sent, _) = meet(client, b.server().unwrap()).await;
            assert_eq!(sent.is_ok(), good);
            let missed = sent
                .err()
                .is_some_and(|why| WrongServer::missed_the_pin(&why));
            assert_eq!(missed, !good);
        }
        // A wanted one has to be one of the peer's all the same.
        let expected = Expected {
            only: b.fingerprint(),
            ..Expected::default()
        };
        let (sent, _) = meet(a.client(expected).unwrap(), b.server().unwrap()).await;
        assert!(!WrongServer::missed_the_pin(&sent.unwrap_err()));
    }

    #[tokio::test]
    async fn a_server_without_the_key_of_its_certificate_gets_nothing() {
        for versions in [NEWEST, BOTH, OLD] {
            let [a, b, thief] = [versions, versions, versions].map(identity);
            let mut server = thief.server().unwrap();
            server.cert_resolver = Stolen::new(&b, &thief);
            let client = a.client(only(&b)).unwrap();
            let (sent, seen) = meet(client, server).await;
            assert!(sent.is_err() && seen.is_err(), "{sent:?} {seen:?}");
        }
    }

    #[tokio::test]
    async fn a_client_without_the_key_of_its_certificate_does_not_come_in() {
        for versions in [NEWEST, BOTH, OLD] {
            let [a, b, thief] = [versions, versions, versions].map(identity);
            let mut client = thief.client(only(&b)).unwrap();
            client.client_auth_cert_resolver = Stolen::new(&a, &thief);
            let (_, seen) = meet(client, b.server().unwrap()).await;
            assert!(seen.is_err(), "{seen:?}");
        }
    }

    fn somebody() -> Connection {
        Connection::at(std::net::Ipv4Addr::LOCALHOST.into())
    }

    #[test]
    fn whose_a_connection_is_follows_what_is_registered() {
        let (own, other) = (Arc::new(identity(NEWEST)), identity(NEWEST));
        let caller = somebody().showing(other.chain.clone());
        let snapshot = |peers: &[&str]| {
            let rows = peers.iter().map(|name| PeerRegistration {
                name: (*name).to_owned(),
                url: format!("https://{name}/api/queues").parse().unwrap(),
                certificates: other.fingerprint().into_iter().collect(),
                ca: None,
                allow: Vec::new(),
                private: false,
            });
            Arc::new(TrustSnapshot {
                members: PeerSet::default().with(rows.collect()),
                server: Arc::new(own.server().unwrap()),
                identity: own.clone(),
            })
        };
        let (before, after, gone) = (snapshot(&["b"]), snapshot(&["c"]), snapshot(&[]));
        let first = caller.member(&before).unwrap();
        // Found out once.
        assert!(Arc::ptr_eq(&first, &caller.member(&before).unwrap()));
        assert_eq!(first.name, "b");
        assert_eq!(caller.member(&after).unwrap().name, "c");
        let cause = RejectionReason::UnknownCertificate(other.fingerprint().unwrap());
        assert_eq!(caller.member(&gone).unwrap_err(), cause);
        let nobody = somebody().member(&before);
        assert_eq!(nobody.unwrap_err(), RejectionReason::NoCertificate);
    }

    #[tokio::test]
    async fn a_client_may_come_without_a_certificate_and_is_nobody() {
        let (a, b) = (identity(NEWEST), identity(NEWEST));
        let mut client = a.client(only(&b)).unwrap();
        client.client_auth_cert_resolver = Arc::new(Nobody);
        let (sent, seen) = meet(client, b.server().unwrap()).await;
        sent.unwrap();
        assert_eq!(seen.unwrap(), (None, b"secret".to_vec()));
    }
}
