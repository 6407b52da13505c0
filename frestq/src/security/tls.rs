//! Mutual TLS between peers: this peer's identity, and the verifiers of both sides.
//!
//! Both verifiers check that the other side holds the private key of its certificate. The client
//! verifies that the certificate is that of the expected peer before it sends anything. The server
//! accepts any certificate, or none; the inbox authenticates the sender. Names, dates and chains
//! are not checked, unless the peer is registered with authorities. Sessions are not resumed, so
//! each connection proves the key again.

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

/// TLS 1.3 only.
const NEWEST: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];
/// TLS 1.3, and 1.2 with peers that don't support 1.3.
const BOTH: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];

/// This peer's certificate chain and private key.
#[derive(Debug)]
pub(crate) struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    versions: &'static [&'static SupportedProtocolVersion],
}

impl Identity {
    /// Reads the files that the configuration names; `None` in open mode.
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
                &"it contains no certificate",
            ));
        }
        let mode = fs::metadata(key)
            .map_err(|error| fault("key", key, &error))?
            .permissions()
            .mode();
        if mode & 0o077 != 0 {
            let why = format!(
                "users other than its owner have access to it (mode {:04o}); run chmod 600 {key}",
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
        // Detects a key that does not match the certificate now, not at the first connection.
        identity.server()?;
        Ok(Some(identity))
    }

    /// The fingerprint of the certificate, which other peers register.
    pub(crate) fn fingerprint(&self) -> Option<Fingerprint> {
        self.chain
            .first()
            .map(|certificate| Fingerprint::of(certificate))
    }

    /// The TLS configuration of the server.
    pub(crate) fn server(&self) -> Result<ServerConfig> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = AnyClient(provider.clone());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(self.versions)
            .map_err(tls_error)?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .map_err(tls_error)?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    /// The TLS configuration of a client for connections to the expected server only.
    pub(crate) fn client(&self, expected: ExpectedServer) -> Result<ClientConfig> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = ServerVerifier {
            expected,
            provider: provider.clone(),
        };
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(self.versions)
            .map_err(tls_error)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())
            .map_err(tls_error)?;
        config.resumption = Resumption::disabled();
        Ok(config)
    }
}

fn tls_error(error: rustls::Error) -> Error {
    let why = match error {
        rustls::Error::InconsistentKeys(_) => "the key does not match the certificate".to_owned(),
        other => other.to_string(),
    };
    Error::Config(format!("tls: {why}"))
}

macro_rules! verify_handshake_signatures {
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

/// Accepts every client that holds the key of its certificate, or shows none.
#[derive(Debug)]
struct AnyClient(Arc<CryptoProvider>);

impl AnyClient {
    fn provider(&self) -> &CryptoProvider {
        &self.0
    }
}

impl ClientCertVerifier for AnyClient {
    /// The application's own views may serve clients without certificates.
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

    verify_handshake_signatures!(provider);
}

/// The certificates that a client accepts from the server.
#[derive(Debug, Default)]
pub(crate) struct ExpectedServer {
    /// The registered certificates of the peer.
    pub(crate) pins: Vec<Fingerprint>,
    /// The authorities that may sign further ones.
    pub(crate) authority: Option<Arc<Authority>>,
    /// The only one of all these that is accepted, if the task is pinned to it.
    pub(crate) only: Option<Fingerprint>,
}

impl ExpectedServer {
    /// Checks the certificate chain of the server.
    fn check(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> Result<(), WrongServer> {
        let shown = Fingerprint::of(certificate);
        if let Some(only) = self.only.filter(|only| *only != shown) {
            return Err(WrongServer::NotPinned { shown, only });
        }
        if self.pins.contains(&shown) {
            return Ok(());
        }
        match &self.authority {
            None => Err(WrongServer::Unregistered(shown)),
            Some(authority) => authority
                .verify_server(certificate, intermediates)
                .map_err(|why| WrongServer::NotSignedByAuthority(shown, why)),
        }
    }
}

/// Accepts the expected server only.
#[derive(Debug)]
struct ServerVerifier {
    expected: ExpectedServer,
    provider: Arc<CryptoProvider>,
}

impl ServerVerifier {
    fn provider(&self) -> &CryptoProvider {
        &self.provider
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.expected.check(certificate, intermediates) {
            Ok(()) => Ok(ServerCertVerified::assertion()),
            Err(why) => {
                let why = rustls::OtherError(Arc::new(why));
                Err(CertificateError::Other(why).into())
            }
        }
    }

    verify_handshake_signatures!(provider);
}

/// Why a server's certificate is not accepted. It is part of the peer's last error, for operators;
/// rustls prints only the debug form of causes, so that is the text.
pub(crate) enum WrongServer {
    Unregistered(Fingerprint),
    NotSignedByAuthority(Fingerprint, rustls::Error),
    NotPinned {
        shown: Fingerprint,
        only: Fingerprint,
    },
}

impl WrongServer {
    /// Whether an attempt failed because of its task's pin; then it says nothing about the peer.
    pub(crate) fn is_pin_mismatch(error: &(dyn std::error::Error + 'static)) -> bool {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            // `io::Error::source` skips the inner error itself.
            let inner = io.get_ref();
            return inner.is_some_and(|inner| Self::is_pin_mismatch(inner));
        }
        match error.downcast_ref::<rustls::Error>() {
            Some(rustls::Error::InvalidCertificate(CertificateError::Other(cause))) => {
                matches!(cause.0.downcast_ref(), Some(Self::NotPinned { .. }))
            }
            Some(_) => false,
            None => error.source().is_some_and(Self::is_pin_mismatch),
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
            Self::NotSignedByAuthority(shown, why) => write!(
                f,
                "{shown} is not registered for this peer, and its authorities don't confirm it: {why}"
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

    /// TLS 1.2 only.
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

    /// Expects the server of this identity.
    fn only(server: &Identity) -> ExpectedServer {
        ExpectedServer {
            pins: vec![server.fingerprint().unwrap()],
            ..ExpectedServer::default()
        }
    }

    /// The certificate of one identity with the key of another.
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
    struct NoCertificate;

    impl ResolvesClientCert for NoCertificate {
        fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
            None
        }

        fn has_certs(&self) -> bool {
            false
        }
    }

    /// What the server received, the client's certificate and the bytes, or its error.
    type Received = Result<(Option<Fingerprint>, Vec<u8>), String>;

    /// Sends "secret" from a client to a server.
    async fn connect(client: ClientConfig, server: ServerConfig) -> (io::Result<()>, Received) {
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
    async fn each_side_learns_the_certificate_of_the_other_in_every_version() {
        for versions in [NEWEST, BOTH, OLD] {
            let (a, b) = (identity(versions), identity(BOTH));
            let client = a.client(only(&b)).unwrap();
            let (sent, seen) = connect(client, b.server().unwrap()).await;
            sent.unwrap();
            assert_eq!(seen.unwrap(), (a.fingerprint(), b"secret".to_vec()));
        }
    }

    #[tokio::test]
    async fn tls_1_2_is_accepted_only_if_it_is_allowed() {
        let (a, b) = (identity(OLD), identity(NEWEST));
        let client = a.client(only(&b)).unwrap();
        let (sent, seen) = connect(client, b.server().unwrap()).await;
        assert!(sent.is_err() && seen.is_err());
    }

    #[tokio::test]
    async fn nothing_is_sent_to_a_server_with_another_certificate() {
        let [a, b, other] = [NEWEST, NEWEST, NEWEST].map(identity);
        for pins in [vec![], vec![other.fingerprint().unwrap()]] {
            let (sent, seen) = connect(
                a.client(ExpectedServer {
                    pins,
                    ..ExpectedServer::default()
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
    async fn of_several_certificates_of_a_peer_only_the_pinned_one_is_accepted() {
        let [a, b, other] = [NEWEST, NEWEST, NEWEST].map(identity);
        let pins = vec![b.fingerprint().unwrap(), other.fingerprint().unwrap()];
        for (only, good) in [(&b, true), (&other, false)] {
            let expected = ExpectedServer {
                pins: pins.clone(),
                only: only.fingerprint(),
                ..ExpectedServer::default()
            };
            let client = a.client(expected).unwrap();
            let (sent, _) = connect(client, b.server().unwrap()).await;
            assert_eq!(sent.is_ok(), good);
            let mismatch = sent
                .err()
                .is_some_and(|why| WrongServer::is_pin_mismatch(&why));
            assert_eq!(mismatch, !good);
        }
        // A pinned one must be one of the peer's all the same.
        let expected = ExpectedServer {
            only: b.fingerprint(),
            ..ExpectedServer::default()
        };
        let (sent, _) = connect(a.client(expected).unwrap(), b.server().unwrap()).await;
        assert!(!WrongServer::is_pin_mismatch(&sent.unwrap_err()));
    }

    #[tokio::test]
    async fn a_server_without_the_key_of_its_certificate_receives_nothing() {
        for versions in [NEWEST, BOTH, OLD] {
            let [a, b, thief] = [versions, versions, versions].map(identity);
            let mut server = thief.server().unwrap();
            server.cert_resolver = Stolen::new(&b, &thief);
            let client = a.client(only(&b)).unwrap();
            let (sent, seen) = connect(client, server).await;
            assert!(sent.is_err() && seen.is_err(), "{sent:?} {seen:?}");
        }
    }

    #[tokio::test]
    async fn a_client_without_the_key_of_its_certificate_is_rejected() {
        for versions in [NEWEST, BOTH, OLD] {
            let [a, b, thief] = [versions, versions, versions].map(identity);
            let mut client = thief.client(only(&b)).unwrap();
            client.client_auth_cert_resolver = Stolen::new(&a, &thief);
            let (_, seen) = connect(client, b.server().unwrap()).await;
            assert!(seen.is_err(), "{seen:?}");
        }
    }

    fn anonymous() -> Connection {
        Connection::at(std::net::Ipv4Addr::LOCALHOST.into())
    }

    #[test]
    fn the_peer_of_a_connection_follows_the_registrations() {
        let (own, other) = (Arc::new(identity(NEWEST)), identity(NEWEST));
        let connection = anonymous().with_certificates(other.chain.clone());
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
                peers: PeerSet::default().with(rows.collect()),
                server: Arc::new(own.server().unwrap()),
                identity: own.clone(),
            })
        };
        let (before, after, gone) = (snapshot(&["b"]), snapshot(&["c"]), snapshot(&[]));
        let first = connection.peer(&before).unwrap();
        // Identified only once.
        assert!(Arc::ptr_eq(&first, &connection.peer(&before).unwrap()));
        assert_eq!(first.name, "b");
        assert_eq!(connection.peer(&after).unwrap().name, "c");
        let reason = RejectionReason::UnknownCertificate(other.fingerprint().unwrap());
        assert_eq!(connection.peer(&gone).unwrap_err(), reason);
        let without_certificate = anonymous().peer(&before);
        assert_eq!(
            without_certificate.unwrap_err(),
            RejectionReason::NoCertificate
        );
    }

    #[tokio::test]
    async fn a_client_without_a_certificate_is_accepted_and_has_no_identity() {
        let (a, b) = (identity(NEWEST), identity(NEWEST));
        let mut client = a.client(only(&b)).unwrap();
        client.client_auth_cert_resolver = Arc::new(NoCertificate);
        let (sent, seen) = connect(client, b.server().unwrap()).await;
        sent.unwrap();
        assert_eq!(seen.unwrap(), (None, b"secret".to_vec()));
    }
}
