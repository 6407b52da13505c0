//! A proxy in front of a peer, and what one sender may take up.

use std::{
    fs,
    io::Write as _,
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};

use crate::harness::{
    Peer, Store, eventually, free_port,
    secure::{assert_untouched, certificate, client, hello, peer_line, post, register, secured},
    until, url_of,
};

const HEADER: &str = "X-Sender-SSL-Certificate";

/// The peer listens without TLS, and has an address on the wire that is the proxy's.
fn behind(peer: &mut Peer, address: &str, root_url: &str) {
    peer.url = peer.url.replace("https:", "http:");
    peer.set("FRESTQ_ROOT_URL", root_url);
    peer.set("FRESTQ_PROXY__ADDRESS", address);
}

/// A certificate as nginx's `$ssl_client_escaped_cert` has it.
fn escaped(peer: &Peer, name: &str) -> String {
    let pem = fs::read_to_string(peer.file(&format!("{name}.pem"))).unwrap();
    pem.bytes()
        .map(|byte| match byte.is_ascii_alphanumeric() {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        })
        .collect()
}

/// The status and words that a message gets which comes with these headers, and no TLS.
async fn status(to: &Peer, headers: &[(&str, &str)], message: &Value) -> (u16, String) {
    let mut request = to.http.post(format!("{}/say_queue/", to.url));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = to.ask(request.body(message.to_string())).await.unwrap();
    (answer.status, answer.body)
}

/// B behind a proxy at `address`, which takes everything from A; only B runs.
async fn proxied(store: &Store, address: &str) -> (Peer, Peer) {
    let ((a, a_pin), (mut b, _)) = (secured(store, "a").await, secured(store, "b").await);
    let root_url = b.url.clone();
    behind(&mut b, address, &root_url);
    register(&mut b, "a", &a.url, &[&a_pin], &["*"]);
    b.run().await;
    (a, b)
}

/// What nginx is to pass on of a client's certificate: as it is, in many lines, or escaped.
const AS_IT_IS: &str = "$ssl_client_cert";
const ESCAPED: &str = "$ssl_client_escaped_cert";

/// An nginx that ends TLS for a peer, with the peer's certificate.
struct Nginx(Child);

impl Nginx {
    /// Its program, if the environment names it; if not, says that the test is skipped.
    fn program() -> Option<String> {
        let program = std::env::var("FRESTQ_TEST_NGINX").ok();
        if program.is_none() {
            let test = std::thread::current();
            let name = test.name().unwrap_or_default();
            let _ = writeln!(
                std::io::stderr(),
                "skipped, FRESTQ_TEST_NGINX is not set: {name}"
            );
        }
        program
    }

    async fn start(program: &str, peer: &Peer, port: u16, certificate: &str) -> Self {
        let folder: PathBuf = peer.file(&format!("nginx-{port}"));
        fs::create_dir(&folder).unwrap();
        let at = folder.display();
        let file = |end: &str| peer.file(&format!("{}.{end}", peer.name));
        let config = format!(
            "daemon off; master_process off; pid {at}/pid; error_log {at}/error.log;
            events {{}}
            http {{
                access_log off;
                client_body_temp_path {at}/body; proxy_temp_path {at}/proxy; fastcgi_temp_path {at}/fastcgi;
                uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi;
                server {{
                    listen 127.0.0.1:{port} ssl;
                    ssl_certificate {};
                    ssl_certificate_key {};
                    ssl_protocols TLSv1.3;
                    ssl_verify_client optional_no_ca;
                    location / {{
                        proxy_pass http://127.0.0.1:{};
                        proxy_set_header {HEADER} {certificate};
                    }}
                }}
            }}",
            file("pem").display(),
            file("key").display(),
            peer.port,
        );
        fs::write(folder.join("nginx.conf"), config).unwrap();
        let nginx = Command::new(program)
            .args(["-c", "nginx.conf", "-p"])
            .arg(&folder)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let nginx = Self(nginx);
        until("nginx listens", async || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        })
        .await;
        nginx
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A hands a task to B, in front of which nginx is, and gets its result; a stranger gets nothing.
async fn through_nginx(store: &Store, certificate_as: &str) {
    let Some(program) = Nginx::program() else {
        return;
    };
    let ((mut a, a_pin), (mut b, b_pin)) = (secured(store, "a").await, secured(store, "b").await);
    let port = free_port();
    let front = url_of(port).replace("http:", "https:");
    behind(&mut b, "127.0.0.1", &front);
    register(&mut a, "b", &front, &[&b_pin], &[]);
    register(&mut b, "a", &a.url, &[&a_pin], &["*"]);
    a.run().await;
    b.run().await;
    let _nginx = Nginx::start(&program, &b, port, certificate_as).await;
    for name in ["ada", "grace"] {
        let said = a
            .call(
                &front,
                "say_queue",
                "hello_world",
                json!({"username": name}),
            )
            .await;
        assert_eq!(said["output"], format!("hello {name}!"));
    }
    let tasks = b.tasks().len();
    certificate(&a, "stranger");
    for http in [client(&a, "stranger"), a.http.clone()] {
        let ask = |header: Option<String>| {
            let mut request = http.post(format!("{front}/say_queue/"));
            if let Some(header) = header {
                request = request.header(HEADER, header);
            }
            b.ask(request.body(hello(&a.url).to_string()))
        };
        assert_eq!(ask(None).await.unwrap().status, 403);
        // What a client says of itself does not get through.
        assert_eq!(ask(Some(escaped(&a, "a"))).await.unwrap().status, 403);
    }
    assert_eq!(b.tasks().len(), tasks);
}

on_each_store! {
    async fn a_task_goes_through_nginx_and_its_result_comes_back(store) {
        through_nginx(&store, ESCAPED).await;
    }

    async fn nginx_may_pass_a_certificate_on_in_many_lines_as_it_did_for_original_peers(store) {
        through_nginx(&store, AS_IT_IS).await;
    }

    async fn a_sender_is_who_the_proxy_says(store) {
        let (a, b) = proxied(&store, "127.0.0.1").await;
        certificate(&a, "stranger");
        let (known, stranger) = (escaped(&a, "a"), escaped(&a, "stranger"));
        let message = hello(&a.url);
        let refused: [&[(&str, &str)]; 4] = [
            &[],
            &[(HEADER, "")],
            &[(HEADER, &stranger)],
            // Only the header counts that the proxy was told to use.
            &[("Client-Cert", "::")],
        ];
        for headers in refused {
            let (status, words) = status(&b, headers, &message).await;
            assert_eq!(status, 403, "{headers:?}: {words}");
        }
        for headers in [&[(HEADER, "x")][..], &[(HEADER, &known), (HEADER, &known)]] {
            assert_eq!(status(&b, headers, &message).await.0, 400);
        }
        assert_untouched(&b);
        assert_eq!(status(&b, &[(HEADER, &known)], &message).await.0, 200);
        let elsewhere = hello("https://c.example.org/api/queues");
        assert_eq!(status(&b, &[(HEADER, &known)], &elsewhere).await.0, 403);
    }

    async fn nobody_but_the_proxy_says_who_a_sender_is(store) {
        let (a, b) = proxied(&store, "127.0.0.2").await;
        let known = escaped(&a, "a");
        for header in [HEADER, "Client-Cert"] {
            assert_eq!(status(&b, &[(header, &known)], &hello(&a.url)).await.0, 403);
        }
        assert_eq!(status(&b, &[], &hello(&a.url)).await.0, 403);
        assert!(b.log().contains("127.0.0.1 is not the proxy"), "{}", b.log());
        assert_untouched(&b);
    }

    async fn one_with_too_many_requests_leaves_the_others_served(store) {
        let ((a, a_pin), (c, c_pin)) = (secured(&store, "a").await, secured(&store, "c").await);
        let (mut b, _) = secured(&store, "b").await;
        let root_url = b.url.clone();
        behind(&mut b, "127.0.0.1", &root_url);
        register(&mut b, "a", &a.url, &[&a_pin], &["*"]);
        register(&mut b, "c", &c.url, &[&c_pin], &["*"]);
        b.set("FRESTQ_LIMITS__REQUESTS_PER_PEER", "2");
        b.run().await;
        let (a_header, c_header) = (escaped(&a, "a"), escaped(&c, "c"));
        let mut flood = Vec::new();
        until("A has too many requests", async || {
            // A request of which the body does not come.
            let mut stream = TcpStream::connect(("127.0.0.1", b.port)).unwrap();
            let head = format!(
                "POST /api/queues/say_queue/ HTTP/1.1\r\nHost: b\r\n{HEADER}: {a_header}\r\nContent-Length: 9\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).unwrap();
            flood.push(stream);
            status(&b, &[(HEADER, &a_header)], &hello(&a.url)).await.0 == 429
        })
        .await;
        assert_eq!(status(&b, &[(HEADER, &c_header)], &hello(&c.url)).await.0, 200);
        drop(flood);
        until("A has room again", async || {
            status(&b, &[(HEADER, &a_header)], &hello(&a.url)).await.0 == 200
        })
        .await;
    }

    async fn one_with_too_many_connections_is_asked_to_come_back(store) {
        let ((a, a_pin), (mut b, _)) = (secured(&store, "a").await, secured(&store, "b").await);
        register(&mut b, "a", &a.url, &[&a_pin], &["*"]);
        b.set("FRESTQ_LIMITS__CONNECTIONS_PER_PEER", "1");
        b.run().await;
        let (first, second) = (client(&a, "a"), client(&a, "a"));
        assert_eq!(post(&b, &first, "say_queue", &hello(&a.url)).await.status, 200);
        let answer = post(&b, &second, "say_queue", &hello(&a.url)).await;
        assert_eq!(answer.status, 429, "{}", answer.body);
        assert!(answer.headers.contains_key("retry-after"), "{:?}", answer.headers);
        drop((first, second));
        until("its connections are gone", async || {
            post(&b, &client(&a, "a"), "say_queue", &hello(&a.url)).await.status == 200
        })
        .await;
    }

    async fn one_address_does_not_take_all_connections(store) {
        let ((a, a_pin), (mut b, _)) = (secured(&store, "a").await, secured(&store, "b").await);
        register(&mut b, "a", &a.url, &[&a_pin], &["*"]);
        b.set("FRESTQ_LIMITS__CONNECTIONS_PER_ADDRESS", "3");
        b.run().await;
        let idle: Vec<_> = (0..3).map(|_| TcpStream::connect(("127.0.0.1", b.port)).unwrap()).collect();
        let ask = async || {
            let request = client(&a, "a").post(format!("{}/say_queue/", b.url));
            b.ask(request.body(hello(&a.url).to_string())).await
        };
        until("more connections from there are closed", async || ask().await.is_err()).await;
        drop(idle);
        until("there is room again", async || ask().await.is_ok()).await;
    }

    async fn strangers_take_no_place_of_a_registered_peer(store) {
        let ((a, a_pin), (mut b, _)) = (secured(&store, "a").await, secured(&store, "b").await);
        register(&mut b, "a", &a.url, &[&a_pin], &["*"]);
        b.set("FRESTQ_LIMITS__CONNECTIONS", "1");
        // Its first view takes the one place that strangers have, and keeps it.
        b.run().await;
        certificate(&a, "stranger");
        let ready = b.view("/ready");
        let other = client(&a, "stranger");
        until("another stranger is turned away", async || other.get(&ready).send().await.is_err()).await;
        for _ in 0..3 {
            let http = client(&a, "a");
            assert_eq!(post(&b, &http, "say_queue", &hello(&a.url)).await.status, 200);
        }
        assert!(b.http.get(&ready).send().await.is_ok(), "the first one is still there");
    }

    async fn a_name_is_never_a_private_address_unless_that_peer_is_configured_so(store) {
        let ((mut a, a_pin), (mut b, b_pin)) = (secured(&store, "a").await, secured(&store, "b").await);
        let named = b.url.replace("127.0.0.1", "localhost");
        b.set("FRESTQ_ROOT_URL", &named);
        let table = |private| format!("{{url = {named:?}, certificates = [{b_pin:?}], private = {private}}}");
        a.set("FRESTQ_PEERS__B", &table(false));
        register(&mut b, "a", &a.url, &[&a_pin], &["*"]);
        a.run().await;
        b.run().await;
        let task = a.send(&named, "say_queue", "hello_world", json!({"username": "ada"})).await;
        let error = eventually("A says why", async || {
            peer_line(&a, "b")["last_error"].as_str().map(str::to_owned)
        })
        .await;
        assert!(error.contains("private address"), "{error}");
        assert_untouched(&b);
        a.stop().await;
        a.set("FRESTQ_PEERS__B", &table(true));
        a.run().await;
        assert_eq!(a.output(&task).await, "hello ada!");
    }
}
