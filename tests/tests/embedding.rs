//! Peers inside of another program: `App::start`, `App::serve`, and their routers in an axum
//! application. Here the program is the test.

use std::{
    future::pending,
    net::{IpAddr, SocketAddr},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
};

use axum::{Extension, Router, extract::ConnectInfo};
use frestq::{App, Error, Frestq, RunningPeer, prelude::*};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{Notify, oneshot},
    task::JoinHandle,
};

use crate::harness::{Folder, PATIENCE, eventually, message};

#[derive(Serialize, Deserialize, Action)]
#[action(queue = "embedded_archive", action = "keep", output = String)]
struct Keep {
    title: String,
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Shelf {
    shelf: String,
}

#[frestq::task]
async fn keep(Keep { title }: Keep, State(settings): State<Shelf>) -> anyhow::Result<String> {
    Ok(format!("{title} on {}", settings.shelf))
}

/// Has another peer keep something.
#[frestq::task(queue = "embedded_office", action = "delegate")]
async fn delegate(archive: String, task: Task) -> anyhow::Result<()> {
    let title = "a delegated one".to_owned();
    task.add(Keep { title }.to(archive));
    Ok(())
}

fn office() -> App {
    App::new().only("embedded_office")
}

fn archive() -> App {
    let shelf = "B7".to_owned();
    App::new()
        .only("embedded_archive")
        .settings_value(Shelf { shelf })
}

/// The same application with a new database in this folder.
async fn with_database(app: App, folder: &Folder, name: &str) -> App {
    let path = folder.join(format!("{name}.sqlite"));
    let app = app.configure(|config| config.database = Some(format!("sqlite:{}", path.display())));
    app.create_database().await.unwrap();
    app
}

/// Starts it for a router that is at `/NAME` of this address.
async fn nested(app: App, folder: &Folder, name: &str, address: SocketAddr) -> RunningPeer {
    let app = with_database(app, folder, name).await;
    app.configure(|config| config.root_url = Some(format!("http://{address}/{name}/api/queues")))
        .start()
        .await
        .unwrap()
}

async fn free_listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// The application around the peers.
fn serve(listener: TcpListener, router: Router) -> JoinHandle<std::io::Result<()>> {
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(axum::serve(listener, service).into_future())
}

fn http() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

/// The status that a message for `queue` of this peer gets, with these headers.
async fn post(url: &str, queue: &str, headers: &[(&str, &str)], message: &Value) -> u16 {
    let mut request = http()
        .post(format!("{url}/{queue}/"))
        .body(message.to_string());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await.unwrap().status().as_u16()
}

fn keep_message(sender: &str) -> Value {
    message(sender, "keep", json!({"title": "one"}))
}

/// Whether the peer has the task of this message.
async fn has(peer: &Frestq, message: &Value) -> bool {
    let id = message["task_id"].as_str().unwrap().into();
    match peer.task(&id).await {
        Ok(_) => true,
        Err(Error::UnknownTask(_)) => false,
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn two_peers_of_one_process_work_beside_an_application() {
    let folder = Folder::new();
    let (listener, address) = free_listener().await;
    let office = nested(office(), &folder, "office", address).await;
    let archive = nested(archive(), &folder, "archive", address).await;
    let router = Router::new()
        .route("/", get(|| async { "the application" }))
        .nest("/office", office.router())
        .nest("/archive", archive.router());
    let server = serve(listener, router);

    let page = http().get(format!("http://{address}/")).send();
    let page = page.await.unwrap().text().await.unwrap();
    assert_eq!(page, "the application");
    let (sender, receiver) = (office.handle(), archive.handle());
    let title = "minutes".to_owned();
    let task = sender
        .send(Keep { title }.to(receiver.url()))
        .await
        .unwrap();
    assert_eq!(task.output().await.unwrap(), "minutes on B7");
    assert_eq!(receiver.settings::<Shelf>().shelf, "B7");
    let tree = SimpleTask::new(sender.url(), "embedded_office", "delegate");
    let tree = tree.data(receiver.url().as_str());
    sender.send(tree).await.unwrap().output().await.unwrap();

    // Each has only the handlers that it was narrowed to.
    let message = keep_message("http://127.0.0.1:1/api/queues");
    let office_url = sender.url().as_str();
    let answer = post(office_url, "embedded_archive", &[], &message).await;
    assert_eq!(answer, 404);

    // Whoever sends to a peer that has stopped is to come back.
    let archive_url = receiver.url().to_string();
    tokio::join!(office.stop(), archive.stop());
    let answer = post(&archive_url, "embedded_archive", &[], &message).await;
    assert_eq!(answer, 503);
    server.abort();
}

#[tokio::test]
async fn a_queue_that_no_handler_serves_stops_the_start() {
    let folder = Folder::new();
    let app = with_database(App::new().only("embedded_ofice"), &folder, "office").await;
    let Err(Error::Handlers(faults)) = app.start().await else {
        panic!("it has started");
    };
    assert_eq!(
        faults,
        [
            "  .only(\"embedded_ofice\") names a queue that no handler serves; \
             did you mean .only(\"embedded_office\")?"
        ]
    );
}

#[tokio::test]
async fn without_identities_only_the_own_machine_may_send() {
    let folder = Folder::new();
    let (listener, address) = free_listener().await;
    let archive = nested(archive(), &folder, "archive", address).await;
    // The address of a client, as a server on another interface would have it.
    let from = |ip: &str| {
        let address = SocketAddr::new(ip.parse::<IpAddr>().unwrap(), 4711);
        archive.router().layer(Extension(ConnectInfo(address)))
    };
    let mut router = Router::new();
    let addresses = [
        ("127.0.0.9", 200),
        ("::1", 200),
        ("::ffff:127.0.0.1", 200),
        ("192.0.2.1", 403),
        ("::ffff:192.0.2.1", 403),
        ("10.0.0.1", 403),
        ("0.0.0.0", 403),
    ];
    for (n, (ip, _)) in addresses.iter().enumerate() {
        router = router.nest(&format!("/{n}"), from(ip));
    }
    let server = serve(listener, router);
    for (n, (ip, status)) in addresses.iter().enumerate() {
        let message = keep_message("http://127.0.0.1:1/api/queues");
        let url = format!("http://{address}/{n}/api/queues");
        let answer = post(&url, "embedded_archive", &[], &message).await;
        assert_eq!(answer, *status, "{ip}");
        let stored = has(archive.handle(), &message).await;
        assert_eq!(stored, *status == 200, "{ip}");
    }
    archive.stop().await;
    server.abort();
}

#[tokio::test]
async fn a_server_that_does_not_say_where_messages_come_from_takes_none() {
    let folder = Folder::new();
    let (listener, address) = free_listener().await;
    let archive = nested(archive(), &folder, "archive", address).await;
    let router = Router::new().nest("/archive", archive.router());
    let server = tokio::spawn(axum::serve(listener, router).into_future());
    let message = keep_message("http://127.0.0.1:1/api/queues");
    let url = archive.handle().url().as_str();
    assert_eq!(post(url, "embedded_archive", &[], &message).await, 500);
    assert!(!has(archive.handle(), &message).await);
    archive.stop().await;
    server.abort();
}

/// A certificate as RFC 9440 has it in a header, and its fingerprint.
fn shown(certificate: &rcgen::Certificate) -> (String, String) {
    let pem = certificate.pem();
    let base64: String = pem
        .lines()
        .filter(|line| !line.starts_with("---"))
        .collect();
    let fingerprint: String = Sha256::digest(certificate.der())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    (format!(":{base64}:"), format!("sha256:{fingerprint}"))
}

#[tokio::test]
async fn in_another_server_senders_are_those_that_the_proxy_vouches_for() {
    use std::os::unix::fs::OpenOptionsExt as _;

    let folder = Folder::new();
    let (listener, address) = free_listener().await;
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (pem, key) = (folder.join("own.pem"), folder.join("own.key"));
    std::fs::write(&pem, own.cert.pem()).unwrap();
    let mut options = std::fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&key)
        .unwrap();
    std::io::Write::write_all(&mut file, own.signing_key.serialize_pem().as_bytes()).unwrap();
    let member = rcgen::generate_simple_self_signed(["member".to_owned()]).unwrap();
    let stranger = rcgen::generate_simple_self_signed(["stranger".to_owned()]).unwrap();
    let (member, pin) = shown(&member.cert);
    let (stranger, _) = shown(&stranger.cert);

    let sender = "https://127.0.0.1:1/api/queues";
    let app = with_database(archive(), &folder, "archive").await;
    let archive = app
        .configure(|config| {
            config.root_url = Some("https://localhost/archive/api/queues".to_owned());
            config.tls.certificate = Some(pem.display().to_string());
            config.tls.key = Some(key.display().to_string());
            config.proxy.address = Some([127, 0, 0, 1].into());
            config.proxy.header = "Client-Cert".to_owned();
            let peer = config.peer("member");
            peer.url = Some(sender.to_owned());
            peer.certificates = vec![pin];
            peer.allow = vec!["embedded_archive/keep".to_owned()];
        })
        .start()
        .await
        .unwrap();
    let elsewhere = SocketAddr::from(([192, 0, 2, 1], 4711));
    let not_the_proxy = archive.router().layer(Extension(ConnectInfo(elsewhere)));
    let router = Router::new()
        .nest("/archive", archive.router())
        .nest("/elsewhere", not_the_proxy);
    let server = serve(listener, router);
    for (name, headers, status) in [
        ("archive", vec![("Client-Cert", member.as_str())], 200),
        ("archive", vec![("Client-Cert", stranger.as_str())], 403),
        (
            "archive",
            vec![("X-Sender-SSL-Certificate", member.as_str())],
            403,
        ),
        ("archive", vec![], 403),
        ("elsewhere", vec![("Client-Cert", member.as_str())], 403),
        ("elsewhere", vec![], 403),
    ] {
        let message = keep_message(sender);
        let url = format!("http://{address}/{name}/api/queues");
        let answer = post(&url, "embedded_archive", &headers, &message).await;
        assert_eq!(answer, status, "{name} {headers:?}");
        assert_eq!(has(archive.handle(), &message).await, status == 200);
    }
    archive.stop().await;
    server.abort();
}

#[tokio::test]
async fn nothing_is_accepted_before_the_hooks_of_the_start_have_ended() {
    let folder = Folder::new();
    let (listener, address) = free_listener().await;
    let (looked, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let said = Arc::new(Mutex::new(Vec::new()));
    let (hook_looked, hook_goes_on, hook_says) = (looked.clone(), go_on.clone(), said.clone());
    let (view_says, end_says) = (said.clone(), said.clone());
    let app = with_database(office(), &folder, "office").await;
    let app = app
        .on_start(async move |peer: Frestq| {
            let unknown = peer.task(&"unknown".into()).await;
            anyhow::ensure!(matches!(unknown, Err(Error::UnknownTask(_))));
            hook_looked.notify_one();
            hook_goes_on.notified().await;
            hook_says.lock().unwrap().push("start");
            Ok(())
        })
        .route(
            "/view",
            get(async move || {
                view_says.lock().unwrap().push("view");
                "seen"
            }),
        )
        .on_shutdown(async move |peer: Frestq| {
            let sent = peer.send(External::new()).await?;
            peer.task(sent.id()).await?;
            end_says.lock().unwrap().push("shutdown");
            Ok(())
        });
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(app.serve(listener, async {
        let _ = stopped.await;
    }));
    looked.notified().await;
    // The connection waits with the system, and its request with it.
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET /view HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    go_on.notify_one();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("seen"), "{answer}");
    drop(stop);
    serving.await.unwrap().unwrap();
    assert_eq!(*said.lock().unwrap(), ["start", "view", "shutdown"]);
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_hook_that_fails_at_the_start_leaves_nobody_listening() {
    let folder = Folder::new();
    let (listener, address) = free_listener().await;
    let app = with_database(office(), &folder, "office").await;
    let app = app.on_start(async |_| anyhow::bail!("not today"));
    let error = app.serve(listener, pending()).await.unwrap_err();
    let cause = std::error::Error::source(&error).map(ToString::to_string);
    assert_eq!(cause.as_deref(), Some("not today"));
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_hook_that_takes_for_ever_at_the_start_does_not_outlast_the_shutdown() {
    let folder = Folder::new();
    let (listener, _) = free_listener().await;
    let app = with_database(office(), &folder, "office").await;
    let (begun, has_begun) = oneshot::channel();
    let app = app.on_start(async move |_| {
        let _ = begun.send(());
        pending().await
    });
    let shutdown = async {
        let _ = has_begun.await;
    };
    let served = tokio::time::timeout(PATIENCE, app.serve(listener, shutdown));
    served.await.unwrap().unwrap();
}

#[tokio::test]
async fn the_embedded_example_makes_its_round_trip_and_ends() {
    let mut example = Command::new(env!("CARGO_BIN_EXE_frestq-test-embedded"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let status = eventually("the example ends", async || example.try_wait().unwrap()).await;
    let output = example.wait_with_output().unwrap();
    let words = String::from_utf8(output.stdout).unwrap();
    assert!(status.success(), "{words}");
    for line in [
        "  office | the archive says: \"minutes of the meeting\" is on shelf B7",
        "     app | stopped, after both peers",
    ] {
        assert!(words.lines().any(|said| said == line), "{words}");
    }
}
