//! Peers with certificates, and clients that show one and send whatever the test wants.

use std::sync::Arc;

use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_rustls::TlsAcceptor;

use super::{Answer, Fake, Peer, Store, free_port, message, url_of};

/// Makes a certificate in the peer's folder; gives its fingerprint.
pub(crate) fn certificate(peer: &Peer, name: &str) -> String {
    let made = peer.cli(&["--new-certificate", name]);
    let words = String::from_utf8_lossy(&made.stdout).into_owned();
    assert!(made.status.success(), "{made:?}");
    let start = words.find("sha256:").unwrap();
    words[start..].split('"').next().unwrap().to_owned()
}

/// The peer shows a certificate from its folder, from its next start on.
pub(crate) fn show(peer: &mut Peer, name: &str) {
    for (key, end) in [("CERTIFICATE", "pem"), ("KEY", "key")] {
        peer.set(&format!("FRESTQ_TLS__{key}"), &format!("{name}.{end}"));
    }
}

/// Registers a peer with another one, for its next start.
pub(crate) fn register(at: &mut Peer, name: &str, url: &str, pins: &[&str], allow: &[&str]) {
    let table = format!("{{url = {url:?}, certificates = {pins:?}, allow = {allow:?}}}");
    at.set(&format!("FRESTQ_PEERS__{}", name.to_uppercase()), &table);
}

/// A peer with a certificate, which is not running; and the certificate's fingerprint.
pub(crate) async fn secured(store: &Store, name: &'static str) -> (Peer, String) {
    let mut peer = Peer::new(store, name).await;
    peer.url = peer.url.replace("http:", "https:");
    let pin = certificate(&peer, name);
    show(&mut peer, name);
    peer.createdb();
    (peer, pin)
}

/// Two running peers; B takes what is allowed from A, and A nothing from B.
pub(crate) async fn pair(store: &Store, allow: &[&str]) -> (Peer, Peer) {
    let ((mut a, a_pin), (mut b, b_pin)) = (secured(store, "a").await, secured(store, "b").await);
    register(&mut a, "b", &b.url, &[&b_pin], &[]);
    register(&mut b, "a", &a.url, &[&a_pin], allow);
    a.run().await;
    b.run().await;
    (a, b)
}

/// A client that shows a certificate of this peer's folder, and sends what the test wants.
pub(crate) fn client(peer: &Peer, name: &str) -> reqwest::Client {
    let mut pem = std::fs::read(peer.file(&format!("{name}.key"))).unwrap();
    pem.extend(std::fs::read(peer.file(&format!("{name}.pem"))).unwrap());
    reqwest::Client::builder()
        .identity(reqwest::Identity::from_pem(&pem).unwrap())
        .danger_accept_invalid_certs(true)
        .no_proxy()
        .build()
        .unwrap()
}

/// Posts a message to a peer through a client.
pub(crate) async fn post(
    to: &Peer,
    http: &reqwest::Client,
    queue: &str,
    message: &Value,
) -> Answer {
    let request = http.post(format!("{}/{queue}/", to.url));
    to.ask(request.body(message.to_string())).await.unwrap()
}

/// A message that hands over the task of saying hello.
pub(crate) fn hello(sender: &str) -> Value {
    message(sender, "hello_world", json!({"username": "ada"}))
}

/// What its command line says of a peer.
pub(crate) fn peer_line(at: &Peer, name: &str) -> Value {
    let listed = at.cli(&["--peers", "--json"]);
    let lines: Vec<Value> = serde_json::from_slice(&listed.stdout).unwrap();
    let line = lines.into_iter().find(|line| line["name"] == name);
    line.unwrap_or_else(|| panic!("{listed:?}"))
}

/// Nothing has left a trace in its database, not even a peer's row.
#[track_caller]
pub(crate) fn assert_untouched(peer: &Peer) {
    assert_eq!(peer.tasks(), Vec::<Value>::new());
    let messages = peer.cli(&["--messages", "--json"]);
    assert_eq!(
        serde_json::from_slice::<Value>(&messages.stdout).unwrap(),
        json!([])
    );
    let peers = peer.cli(&["--peers", "--json"]);
    let peers: Vec<Value> = serde_json::from_slice(&peers.stdout).unwrap();
    assert!(
        peers.iter().all(|line| !line["name"].is_null()),
        "{peers:?}"
    );
}

/// The file of a certificate, as others may register it.
pub(crate) fn file_of(peer: &Peer, name: &str) -> String {
    let path = peer.file(&format!("{name}.pem"));
    path.to_str().unwrap().to_owned()
}

/// Puts a pretended peer behind TLS, with a certificate from a peer's folder, under its new address.
pub(crate) async fn behind_tls(mut fake: Fake, peer: &Peer, name: &str) -> Fake {
    let chain = CertificateDer::pem_file_iter(peer.file(&format!("{name}.pem"))).unwrap();
    let key = PrivateKeyDer::from_pem_file(peer.file(&format!("{name}.key"))).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain.map(Result::unwrap).collect(), key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let port = free_port();
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let plain = fake.port;
    fake.url = url_of(port).replace("http:", "https:");
    fake.servers.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            connections.spawn(async move {
                let mut outside = acceptor.accept(stream).await?;
                let mut inside = tokio::net::TcpStream::connect(("127.0.0.1", plain)).await?;
                tokio::io::copy_bidirectional(&mut outside, &mut inside).await
            });
        }
    });
    fake
}

/// What a command that failed complains of.
#[track_caller]
pub(crate) fn complaint(output: &std::process::Output) -> String {
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{words}");
    words
}
