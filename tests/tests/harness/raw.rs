//! TLS connections on which the test writes what it likes, with whichever certificate and key.

use std::sync::Arc;

use rustls::{
    ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::{
        ResolvesClientCert,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
    sign::CertifiedKey,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{PATIENCE, Peer};

/// A certificate of a peer's folder, with the key of another one or with its own.
pub(crate) fn showing(peer: &Peer, certificate: &str, key: &str) -> ClientConfig {
    let chain = CertificateDer::pem_file_iter(peer.file(&format!("{certificate}.pem"))).unwrap();
    let key = PrivateKeyDer::from_pem_file(peer.file(&format!("{key}.key"))).unwrap();
    with_key(chain.map(Result::unwrap).collect(), &key)
}

/// Any certificate with any key.
pub(crate) fn with_key(
    chain: Vec<CertificateDer<'static>>,
    key: &PrivateKeyDer<'static>,
) -> ClientConfig {
    let key = aws_lc_rs::sign::any_supported_type(key).unwrap();
    let shows = Shows(Arc::new(CertifiedKey::new(chain, key)));
    let provider = Arc::new(aws_lc_rs::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer))
        .with_client_cert_resolver(Arc::new(shows))
}

/// A connection to a peer.
pub(crate) async fn connect(
    to: &Peer,
    config: &Arc<ClientConfig>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(("127.0.0.1", to.port)).await?;
    let name = ServerName::try_from("127.0.0.1").unwrap();
    TlsConnector::from(config.clone())
        .connect(name, stream)
        .await
}

/// What is answered to these bytes, as far as it comes before the connection ends.
pub(crate) async fn answer(to: &Peer, config: &Arc<ClientConfig>, request: &[u8]) -> String {
    let exchange = async {
        let mut stream = connect(to, config).await?;
        // It may lose patience before all of it is sent, and say so all the same.
        let _ = stream.write_all(request).await;
        let _ = stream.flush().await;
        Ok::<_, std::io::Error>(rest(stream).await)
    };
    let answer = tokio::time::timeout(PATIENCE, exchange).await;
    answer.expect("an answer, or an end").unwrap_or_default()
}

/// What comes until the connection ends, well or not.
pub(crate) async fn rest(mut stream: impl tokio::io::AsyncRead + Unpin) -> String {
    let (mut text, mut piece) = (Vec::new(), [0; 4096]);
    while let Ok(length @ 1..) = stream.read(&mut piece).await {
        text.extend_from_slice(&piece[..length]);
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// The head of a request that posts to a queue, without its last line.
pub(crate) fn head(queue: &str) -> String {
    format!("POST /api/queues/{queue}/ HTTP/1.1\r\nHost: peer\r\nConnection: close\r\n")
}

/// Shows one certificate, whoever asks.
#[derive(Debug)]
struct Shows(Arc<CertifiedKey>);

impl ResolvesClientCert for Shows {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Whoever listens is who the test wants to speak to.
#[derive(Debug)]
struct AnyServer;

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
