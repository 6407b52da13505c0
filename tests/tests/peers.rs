//! Peers that are registered while another one serves, or by its command line.

use std::{
    os::unix::fs::PermissionsExt as _,
    sync::Arc,
    time::{Duration, Instant},
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::{
    Answer, Peer, Store, eventually, id, message, raw,
    secure::{certificate, client, complaint, file_of, hello, peer_line, post, register, secured},
    text, until, update,
};

/// What a command of its own says once it has succeeded.
#[track_caller]
fn said(at: &Peer, arguments: &[&str]) -> String {
    let output = at.cli(arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The messages that a peer has sent about a task.
fn messages_of(at: &Peer, task: &str) -> Vec<Value> {
    let listed = said(at, &["--messages", "--json"]);
    let mut messages: Vec<Value> = serde_json::from_str(&listed).unwrap();
    messages.retain(|message| message["task_id"] == task);
    messages
}

/// Lets the application of a peer register another one.
async fn add(at: &Peer, name: &str, url: &str, certificates: &[&str], allow: &[&str]) -> Answer {
    let new = json!({"name": name, "url": url, "certificates": certificates, "allow": allow});
    let request = at.http.post(at.view("/peers"));
    let request = request
        .header("content-type", "application/json")
        .body(new.to_string());
    at.ask(request).await.unwrap()
}

/// An authority that signs certificates.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, id());
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Self { pem, issuer }
    }

    /// A file with its certificate in the peer's folder.
    fn file(&self, at: &Peer) -> String {
        let path = at.file("authority.pem");
        std::fs::write(&path, &self.pem).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Puts a certificate for a host and its key into the peer's folder.
    fn sign(&self, at: &Peer, name: &str, host: &str, last_year: i32) {
        let mut params = CertificateParams::new([host.to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2000, 1, 1);
        params.not_after = rcgen::date_time_ymd(last_year, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(at.file(&format!("{name}.pem")), certificate.pem()).unwrap();
        let file = at.file(&format!("{name}.key"));
        std::fs::write(&file, key.serialize_pem()).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
}

/// Two peers that are not running, each of which knows the other one by the authority alone.
async fn vouched_for(store: &Store, ca: &Authority) -> (Peer, Peer) {
    let ((mut a, _), (b, _)) = (secured(store, "a").await, secured(store, "b").await);
    for peer in [&a, &b] {
        ca.sign(peer, peer.name, "127.0.0.1", 4000);
    }
    let file = ca.file(&a);
    let table = format!("{{url = {:?}, ca = {file:?}, allow = [\"*\"]}}", b.url);
    a.set("FRESTQ_PEERS__B", &table);
    said(
        &b,
        &[
            "--add-peer",
            "a",
            &a.url,
            &format!("ca:{}", ca.file(&b)),
            "*",
        ],
    );
    (a, b)
}

/// Two running peers; A has B in its configuration, and B has A in its database.
async fn met(store: &Store) -> (Peer, Peer) {
    let ((mut a, a_pin), (b, b_pin)) = (secured(store, "a").await, secured(store, "b").await);
    register(&mut a, "b", &b.url, &[&b_pin], &["*"]);
    let mut b = b;
    said(&b, &["--add-peer", "a", &a.url, &a_pin, "*"]);
    a.run().await;
    b.run().await;
    (a, b)
}

async fn say_hello(from: &Peer, to: &Peer) {
    let ada = json!({"username": "ada"});
    let said = from.call(&to.url, "say_queue", "hello_world", ada).await;
    assert_eq!(said["output"], "hello ada!");
}

on_each_store! {
    async fn a_peer_without_a_configured_one_serves_those_of_its_database(store) {
        let (a, mut b) = met(&store).await;
        say_hello(&a, &b).await;
        say_hello(&b, &a).await;
        let line = peer_line(&b, "a");
        assert_eq!((&line["registered_in"], &line["allow"]), (&json!("database"), &json!(["*"])));
        assert_eq!(peer_line(&a, "b")["registered_in"], "configuration");
        // What it knows of them does not end with it.
        b.stop().await;
        b.run().await;
        say_hello(&a, &b).await;
    }

    async fn a_peer_is_registered_only_if_that_is_recorded(store) {
        let (a, b) = met(&store).await;
        let (_, pin) = secured(&store, "c").await;
        let url = "https://c.example.org/api/queues";
        let names = |at: &Peer| {
            let listed: Vec<Value> = serde_json::from_str(&said(at, &["--peers", "--json"])).unwrap();
            listed.iter().map(|peer| text(peer, "name").to_owned()).collect::<Vec<_>>()
        };
        // Nothing can be recorded while the table is away.
        b.database.execute("ALTER TABLE audit RENAME TO audit_away").await;
        assert_ne!(add(&b, "c", url, &[&pin], &["*"]).await.status, 200);
        let removed = b.cli(&["--remove-peer", "a"]);
        assert!(!removed.status.success(), "{removed:?}");
        assert_eq!(names(&b), ["a"]);
        b.database.execute("ALTER TABLE audit_away RENAME TO audit").await;
        say_hello(&a, &b).await;
        assert_eq!(add(&b, "c", url, &[&pin], &["*"]).await.status, 200);
        assert_eq!(names(&b), ["a", "c"]);
        let recorded = crate::audit::rows(&b);
        let of = |action: &str| recorded.iter().filter(|row| row["action"] == action).count();
        assert_eq!((of("add_peer"), of("remove_peer")), (2, 0), "{recorded:?}");
        assert!(crate::audit::verify(&b, &[]).0);
    }

    async fn with_tls_and_no_peer_at_all_there_is_no_start(store) {
        let (a, pin) = secured(&store, "a").await;
        for arguments in [&[][..], &["--check"]] {
            let output = a.cli(arguments);
            let words = format!(
                "{}{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            );
            assert!(!output.status.success() && words.contains("--add-peer"), "{words}");
            assert!(words.contains("[peers.NAME]"), "{words}");
        }
        said(&a, &["--add-peer", "b", "https://b.example.org/api/queues", &pin]);
        said(&a, &["--check"]);
        said(&a, &["--remove-peer", "b"]);
        assert!(!a.cli(&["--check"]).status.success());
    }

    async fn peers_of_the_database_without_an_identity_are_refused(store) {
        let (mut a, pin) = secured(&store, "a").await;
        said(&a, &["--add-peer", "b", "https://b.example.org/api/queues", &pin]);
        for key in ["CERTIFICATE", "KEY"] {
            a.unset(&format!("FRESTQ_TLS__{key}"));
        }
        let words = complaint(&a.cli(&[]));
        assert!(words.contains("[tls]") && words.contains("--remove-peer"), "{words}");
        let words = complaint(&a.cli(&["--add-peer", "c", "https://c.example.org/api/queues", &pin]));
        assert!(words.contains("[tls]"), "{words}");
        said(&a, &["--remove-peer", "b"]);
        a.url = a.url.replace("https:", "http:");
        a.run().await;
        let answer = add(&a, "c", "https://c.example.org/api/queues", &[&pin], &[]).await;
        // A stranger hears nothing of the configuration; the log says what to do.
        assert!(answer.status == 500 && !answer.body.contains("[tls]"), "{}", answer.body);
        assert!(a.log().contains("add [tls]"), "{}", a.log());
    }

    async fn a_peer_that_the_application_adds_is_in_at_once_and_out_again(store) {
        let (_a, b) = met(&store).await;
        certificate(&b, "c");
        let c_url = "https://c.example.org/api/queues";
        let c = client(&b, "c");
        let status = async || post(&b, &c, "say_queue", &hello(c_url)).await.status;
        assert_eq!(status().await, 403);
        let pem = std::fs::read_to_string(file_of(&b, "c")).unwrap();
        let answer = add(&b, "c", c_url, &[&pem], &["say_queue/*"]).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let names: Vec<_> = answer.json().as_array().unwrap().iter().map(|p| p["name"].clone()).collect();
        assert_eq!(names, ["a", "c"]);
        // Also on the connection that it had as a stranger.
        assert_eq!(status().await, 200);
        assert_eq!(post(&b, &c, "work", &message(c_url, "echo", json!(1))).await.status, 404);
        // Once more under its name is a change.
        let answer = add(&b, "c", c_url, &[&pem], &["work/echo"]).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(post(&b, &c, "work", &message(c_url, "echo", json!(1))).await.status, 200);
        assert_eq!(status().await, 404);
        assert_eq!(b.press("/peers/c/remove").await.status, 200);
        assert_eq!(status().await, 403);
        let order = json!({"to": c_url, "queue": "q", "action": "a"});
        assert_eq!(b.try_order(&order).await.unwrap().status, 403);
    }

    async fn what_the_configuration_registers_is_not_overridden_nor_taken_out(store) {
        let (a, b) = met(&store).await;
        let other = certificate(&a, "other");
        let line = peer_line(&a, "b");
        let b_pin = line["certificates"][0].as_str().unwrap();
        let elsewhere = "https://elsewhere.example.org/api/queues";
        for (name, url, pin, clash) in [
            ("b", elsewhere, other.as_str(), "name"),
            ("c", b.url.as_str(), other.as_str(), "url"),
            ("c", elsewhere, b_pin, "certificate"),
        ] {
            let answer = add(&a, name, url, &[pin], &["*"]).await;
            assert_eq!(answer.status, 400, "{}", answer.body);
            let words = complaint(&a.cli(&["--add-peer", name, url, pin, "*"]));
            for words in [&answer.body, &words] {
                assert!(words.contains(clash) && words.contains("peers.b of the configuration"), "{words}");
            }
        }
        for words in [a.press("/peers/b/remove").await.body, complaint(&a.cli(&["--remove-peer", "b"]))] {
            assert!(words.contains("[peers.b]"), "{words}");
        }
        let words = complaint(&a.cli(&["--remove-peer", "nobody"]));
        assert!(words.contains("--peers"), "{words}");
        let own = a.url.clone();
        let words = add(&a, "me", &own, &[&other], &[]).await.body;
        assert!(words.contains("this peer's own root_url"), "{words}");
        assert_eq!(peer_line(&a, "b"), {
            let mut same = line.clone();
            for moment in ["last_heard", "last_answer"] {
                same[moment] = peer_line(&a, "b")[moment].clone();
            }
            same
        });
        say_hello(&a, &b).await;
    }

    async fn a_reload_keeps_the_peers_of_the_database_and_goes_before_them(store) {
        let (a, b) = met(&store).await;
        let reloaded = async |times: usize| {
            b.hang_up();
            until("it has read them again", async || b.log().matches("SIGHUP").count() == times).await;
        };
        reloaded(1).await;
        say_hello(&a, &b).await;
        // Now the operator gives A's address to another certificate.
        let other = certificate(&a, "other");
        let text = format!("[peers.z]\nurl = {:?}\ncertificates = [{other:?}]\nallow = [\"*\"]\n", a.url);
        std::fs::write(b.file("frestq.toml"), text).unwrap();
        reloaded(2).await;
        assert!(b.log().contains("peer a of the database is ignored"), "{}", b.log());
        assert_eq!(post(&b, &client(&a, "a"), "say_queue", &hello(&a.url)).await.status, 403);
        assert_eq!(post(&b, &client(&a, "other"), "say_queue", &hello(&a.url)).await.status, 200);
        assert_eq!(peer_line(&b, "a")["registered_in"], "database, without effect");
        std::fs::remove_file(b.file("frestq.toml")).unwrap();
        reloaded(3).await;
        say_hello(&a, &b).await;
    }

    async fn a_peer_is_registered_from_the_command_line_while_it_serves(store) {
        let (a, mut b) = met(&store).await;
        certificate(&b, "c");
        let (c_url, c) = ("https://c.example.org/api/queues", client(&b, "c"));
        let words = said(&b, &["--add-peer", "c", c_url, &file_of(&b, "c"), "say_queue/hello_world"]);
        assert!(words.contains("peer c") && words.contains("registered"), "{words}");
        assert_eq!(post(&b, &c, "say_queue", &hello(c_url)).await.status, 200);
        said(&b, &["--remove-peer", "c"]);
        assert_eq!(post(&b, &c, "say_queue", &hello(c_url)).await.status, 403);
        for (arguments, word) in [
            (vec!["--add-peer", "c", c_url, "nowhere.pem"], "nowhere.pem"),
            (vec!["--add-peer", "c", "c.example.org", "sha256:12"], "root queues URL"),
            (vec!["--add-peer", "c", c_url, "sha256:12"], "fingerprint"),
            (vec!["--add-peer", "c", c_url, &file_of(&b, "c"), "say_queue"], "queue/action"),
        ] {
            let words = complaint(&b.cli(&arguments));
            assert!(words.contains(word), "{word}: {words}");
        }
        // And while it does not: then it is in its database at the next start.
        b.stop().await;
        let both = format!("{},{}", file_of(&b, "c"), certificate(&b, "c2"));
        said(&b, &["--add-peer", "c", c_url, &both, "say_queue/*"]);
        b.run().await;
        for c in [&c, &client(&b, "c2")] {
            assert_eq!(post(&b, c, "say_queue", &hello(c_url)).await.status, 200);
        }
        say_hello(&a, &b).await;
    }

    async fn what_began_before_a_peer_was_taken_out_is_refused_after_it(store) {
        let (a, b) = met(&store).await;
        let config = Arc::new(raw::showing(&a, "a", "a"));
        let body = hello(&a.url).to_string();
        let head = format!(
            "POST /api/queues/say_queue/ HTTP/1.1\r\nHost: b\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        for (taken_out, status) in [(false, "200"), (true, "403")] {
            let mut stream = raw::connect(&b, &config).await.unwrap();
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(&body.as_bytes()[..1]).await.unwrap();
            // A request of its own says that the first one has begun, for they come one after the other.
            assert_eq!(post(&b, &client(&a, "a"), "say_queue", &hello(&a.url)).await.status, 200);
            if taken_out {
                said(&b, &["--remove-peer", "a"]);
            }
            stream.write_all(&body.as_bytes()[1..]).await.unwrap();
            let mut answer = Vec::new();
            // It may be closed without a word at the end.
            let _ = stream.read_to_end(&mut answer).await;
            let answer = String::from_utf8(answer).unwrap();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        }
    }

    async fn a_repetition_of_what_was_accepted_is_accepted_though_it_is_not_granted_any_more(store) {
        let (a, b) = met(&store).await;
        let pin = peer_line(&b, "a")["certificates"][0].as_str().unwrap().to_owned();
        let http = client(&a, "a");
        let message = hello(&a.url);
        assert_eq!(post(&b, &http, "say_queue", &message).await.status, 200);
        said(&b, &["--add-peer", "a", &a.url, &pin, "work/echo"]);
        assert_eq!(post(&b, &http, "say_queue", &message).await.status, 200);
        let mut other = message.clone();
        other["data"] = json!({"username": "grace"});
        for new in [&other, &hello(&a.url)] {
            assert_eq!(post(&b, &http, "say_queue", new).await.status, 404);
        }
        let entries: Vec<_> = [&other, &message, &hello(&a.url)]
            .iter()
            .map(|message| json!({"queue": "say_queue", "message": message}))
            .collect();
        let mut batch = crate::harness::message(&a.url, "frestq.batch", json!(entries));
        batch.as_object_mut().unwrap().remove("task_id");
        let answers = post(&b, &http, "internal.frestq", &batch).await.json();
        let statuses: Vec<_> = answers.as_array().unwrap().iter().map(|answer| answer["status"].clone()).collect();
        assert_eq!(statuses, [404, 200, 404]);
        assert_eq!(b.tasks().len(), 1);
    }

    async fn a_peer_that_changes_its_address_keeps_its_tasks(store) {
        let (a, mut b) = met(&store).await;
        let a_pin = peer_line(&b, "a")["certificates"][0].as_str().unwrap().to_owned();
        let sent = b.send(&a.url, "work", "wait", json!({"gate": "go"})).await;
        a.started(&sent, 1).await;
        let taken = a.send(&b.url, "work", "wait", json!({"gate": "go"})).await;
        b.started(&taken, 1).await;
        // What neither could deliver any more: A's report, and another task of B's.
        b.kill();
        a.open("go");
        let reported = a.output(&sent).await;
        let mut a = a;
        a.stop().await;
        b.run().await;
        let late = b.send(&a.url, "work", "echo", json!(1)).await;
        // The same machine by another name.
        a.url = a.url.replace("127.0.0.1", "localhost");
        let new = a.url.clone();
        a.set("FRESTQ_ROOT_URL", &new);
        said(&b, &["--add-peer", "a", &new, &a_pin, "*", "--private"]);
        a.run().await;
        b.open("go");
        assert_eq!(b.output(&sent).await, reported);
        assert_eq!(b.output(&late).await, 1);
        a.output(&taken).await;
        assert_eq!(b.database.number("SELECT count(*) FROM peers WHERE id <> 0").await, 1);
        assert_eq!(b.task(&sent).await["receiver_url"], new);
    }

    async fn peers_may_know_each_other_by_the_word_of_an_authority(store) {
        let ca = Authority::new();
        let (mut a, mut b) = vouched_for(&store, &ca).await;
        a.run().await;
        b.run().await;
        say_hello(&a, &b).await;
        say_hello(&b, &a).await;
        assert_eq!(peer_line(&b, "a")["ca"], true);
        // A new certificate needs no word between the two.
        a.stop().await;
        ca.sign(&a, "a", "127.0.0.1", 4000);
        a.run().await;
        say_hello(&a, &b).await;
        say_hello(&b, &a).await;
        for (name, of, host, last_year, word) in [
            ("expired", &ca, "127.0.0.1", 2001, "xpired"),
            ("foreign", &Authority::new(), "127.0.0.1", 4000, "UnknownIssuer"),
            ("other", &ca, "127.0.0.2", 4000, "a certificate of no registered peer"),
        ] {
            of.sign(&b, name, host, last_year);
            let answer = post(&b, &client(&b, name), "say_queue", &hello(&a.url)).await;
            assert_eq!(answer.status, 403, "{name}: {}", answer.body);
            assert!(b.log().contains(word), "{name}: {}", b.log());
        }
    }

    async fn nothing_is_sent_to_a_server_that_the_authority_does_not_stand_by(store) {
        let ca = Authority::new();
        let (mut a, mut b) = vouched_for(&store, &ca).await;
        ca.sign(&b, "b", "127.0.0.1", 2001);
        a.run().await;
        b.run().await;
        let task = a.send(&b.url, "say_queue", "hello_world", json!({"username": "ada"})).await;
        let error = eventually("A says why", async || {
            peer_line(&a, "b")["last_error"].as_str().map(str::to_owned)
        })
        .await;
        assert!(error.contains("authorities don't confirm it") && error.contains("xpired"), "{error}");
        assert_eq!(b.tasks(), Vec::<Value>::new());
        // Once it has a good one, what waits is delivered.
        ca.sign(&b, "b", "127.0.0.1", 4000);
        b.hang_up();
        assert_eq!(a.output(&task).await, "hello ada!");
    }

    async fn a_peer_whose_certificate_is_put_right_is_tried_at_once(store) {
        let ((a, _), (mut b, b_pin)) = (secured(&store, "a").await, secured(&store, "b").await);
        let mut a = a;
        let a_pin = certificate(&a, "other");
        register(&mut b, "a", &a.url, &[&a_pin], &["*"]);
        b.run().await;
        said(&a, &["--add-peer", "b", &b.url, &a_pin]);
        a.set("FRESTQ_TLS__CERTIFICATE", "other.pem");
        a.set("FRESTQ_TLS__KEY", "other.key");
        a.run().await;
        let task = a.send(&b.url, "work", "echo", json!(1)).await;
        // By now its turn would come in up to half a minute.
        let failures = "SELECT failures FROM peers WHERE id <> 0";
        until("it has failed for a while", async || {
            a.database.number(failures).await >= 3
        })
        .await;
        let (start, soon) = (Instant::now(), Duration::from_secs(10));
        said(&a, &["--add-peer", "b", &b.url, &b_pin]);
        assert_eq!(a.output(&task).await, 1);
        assert!(start.elapsed() < soon, "{:?}", start.elapsed());
    }

    async fn a_pinned_task_goes_to_no_server_with_another_certificate(store) {
        let ((mut a, a_pin), (mut b, b_pin)) = (secured(&store, "a").await, secured(&store, "b").await);
        let next = certificate(&b, "next");
        register(&mut a, "b", &b.url, &[&b_pin, &next], &[]);
        register(&mut b, "a", &a.url, &[&a_pin], &["*"]);
        a.run().await;
        b.run().await;
        let order = |pin: &str| json!({"to": b.url, "queue": "work", "action": "echo", "data": 1, "pin": pin});
        let pinned = a.order(&order(&next)).await;
        let why = eventually("A says why", async || {
            let sent = messages_of(&a, &pinned);
            sent[0]["last_error"].as_str().map(str::to_owned)
        })
        .await;
        assert!(why.contains(&b_pin) && why.contains(&next) && why.contains("pinned"), "{why}");
        // It holds up no other, and says nothing of the peer.
        say_hello(&a, &b).await;
        let right = a.order(&order(&b_pin)).await;
        assert_eq!(a.output(&right).await, 1);
        assert_eq!(peer_line(&a, "b")["breaker"], "closed");
        assert_eq!(b.find_task(&pinned).await, None);
        assert_eq!(a.task(&pinned).await["receiver_ssl_cert"], json!(next));
        for end in ["pem", "key"] {
            std::fs::copy(b.file(&format!("next.{end}")), b.file(&format!("b.{end}"))).unwrap();
        }
        b.hang_up();
        assert_eq!(a.output(&pinned).await, 1);
    }

    async fn an_update_of_a_pinned_task_counts_only_with_its_certificate(store) {
        let ((mut a, a_pin), (mut b, b_pin)) = (secured(&store, "a").await, secured(&store, "b").await);
        let next = certificate(&b, "next");
        register(&mut a, "b", &b.url, &[&b_pin, &next], &[]);
        register(&mut b, "a", &a.url, &[&a_pin], &["*"]);
        a.run().await;
        b.run().await;
        let order = json!({"to": b.url, "queue": "work", "action": "wait", "data": {"gate": "go"}});
        let free = a.order(&order).await;
        let mut order = order.clone();
        order["pin"] = json!(b_pin);
        let pinned = a.order(&order).await;
        for task in [&free, &pinned] {
            b.started(task, 1).await;
        }
        let other = client(&b, "next");
        let forge = async |task: &str| {
            let finished = update(&b.url, task, "finished", json!("forged"));
            post(&a, &other, "internal.frestq", &finished).await
        };
        let (guess, forged) = (forge(&id()).await, forge(&pinned).await);
        assert_eq!((guess.status, forged.status), (404, 404));
        assert_eq!(guess.refusal(), forged.refusal());
        // Without a pin it is the peer, by whichever certificate.
        assert_eq!(forge(&free).await.status, 200);
        assert_eq!(a.output(&free).await, "forged");
        b.open("go");
        assert_eq!(a.output(&pinned).await, 1);
    }

    async fn pinned_and_other_messages_share_a_lane_and_no_connection(store) {
        let (a, mut b) = met(&store).await;
        let pin = peer_line(&a, "b")["certificates"][0].as_str().unwrap().to_owned();
        say_hello(&a, &b).await;
        b.stop().await;
        let mut tasks = Vec::new();
        for n in 0..20 {
            let mut order = json!({"to": b.url, "queue": "work", "action": "echo", "data": n});
            if n % 3 == 0 {
                order["pin"] = json!(pin);
            }
            tasks.push(a.order(&order).await);
        }
        b.run().await;
        for (n, task) in tasks.iter().enumerate() {
            assert_eq!(a.output(task).await, n);
        }
    }

    async fn a_task_of_a_synchronized_group_may_be_pinned(store) {
        let (a, b) = met(&store).await;
        let pin = peer_line(&a, "b")["certificates"][0].clone();
        let play = |to: &str, pin: &Value| {
            json!({"task": {"to": to, "queue": "stage", "action": "play", "pin": pin}})
        };
        let group = json!({"synchronized": [play(&a.url, &Value::Null), play(&b.url, &pin)]});
        let group = a.plant(&group).await;
        a.output(&group).await;
        let played = a.tasks_of("play");
        assert_eq!(played.len(), 2, "{played:?}");
        assert!(played.iter().all(|task| task["output_data"] == 1), "{played:?}");
        // Each of its messages has the pin.
        let pinned = "SELECT count(*) FROM outbox WHERE pin IS NOT NULL";
        assert_eq!(a.database.number(pinned).await, 2);
    }

    async fn a_pin_that_no_server_can_show_is_refused(store) {
        let (a, b) = met(&store).await;
        let other = certificate(&a, "other");
        let pem = std::fs::read_to_string(file_of(&b, "b")).unwrap();
        let stranger = "https://stranger.example.org/api/queues";
        let order = |to: &str, pin: &str| json!({"to": to, "queue": "work", "action": "echo", "pin": pin});
        for (to, pin, word) in [
            (b.url.as_str(), other.as_str(), "none of the certificates of peer b"),
            (b.url.as_str(), "b.pem", "PEM"),
            (a.url.as_str(), other.as_str(), "for this peer itself"),
            (stranger, other.as_str(), "no registered peer"),
        ] {
            let answer = a.try_order(&order(to, pin)).await.unwrap();
            assert!(answer.status >= 400 && answer.body.contains(word), "{word}: {}", answer.body);
        }
        assert_eq!(a.tasks(), Vec::<Value>::new());
        a.order(&order(&b.url, &pem)).await;
        // In open mode nobody shows a certificate.
        let open = Peer::start(&store, "open").await;
        let answer = open.try_order(&order("http://127.0.0.1:1/api/queues", &other)).await.unwrap();
        assert!(answer.status >= 400 && answer.body.contains("[tls]"), "{}", answer.body);
    }

    async fn a_handler_sees_who_sent_its_task_and_with_which_certificate(store) {
        let (a, b) = met(&store).await;
        let task = a.send(&b.url, "work", "whose", Value::Null).await;
        let pin = peer_line(&b, "a")["certificates"][0].clone();
        let whose = json!({"url": a.url, "name": "a", "certificate": pin});
        assert_eq!(a.output(&task).await, whose);
        assert_eq!(b.task(&task).await["sender_ssl_cert"], pin);
        let own = a.call(&a.url, "work", "whose", Value::Null).await;
        assert_eq!(own["output"], json!({"url": a.url, "name": null, "certificate": null}));
    }

    async fn the_last_contact_is_known_both_ways(store) {
        let (a, b) = met(&store).await;
        let before = peer_line(&a, "b");
        assert_eq!((&before["last_heard"], &before["last_answer"]), (&Value::Null, &Value::Null));
        say_hello(&a, &b).await;
        until("it is written down", async || {
            let line = peer_line(&a, "b");
            !line["last_heard"].is_null() && !line["last_answer"].is_null()
        })
        .await;
        let table = said(&a, &["--peers"]);
        assert!(table.contains("last_heard") && table.contains("configuration"), "{table}");
        // A stranger is no contact.
        let heard = peer_line(&a, "b")["last_heard"].clone();
        certificate(&a, "stranger");
        assert_eq!(post(&a, &client(&a, "stranger"), "say_queue", &hello(&b.url)).await.status, 403);
        assert_eq!(peer_line(&a, "b")["last_heard"], heard);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_other_processes_of_a_peer_hear_of_what_one_registers() {
    let Some(store) = Store::postgres() else {
        return;
    };
    let ((a, a_pin), (mut first, _)) = (secured(&store, "a").await, secured(&store, "b").await);
    let root = first.url.clone();
    first.set("FRESTQ_ROOT_URL", &root);
    said(&first, &["--add-peer", "a", &a.url, &a_pin]);
    let mut second = first.second("b2");
    second.url = second.url.replace("http:", "https:");
    first.run().await;
    second.run().await;
    certificate(&a, "c");
    let (c_url, c) = ("https://c.example.org/api/queues", client(&a, "c"));
    let status = async || post(&second, &c, "say_queue", &hello(c_url)).await.status;
    assert_eq!(status().await, 403);
    // Well before it would look by itself.
    let (start, soon) = (Instant::now(), Duration::from_secs(30));
    said(&first, &["--add-peer", "c", c_url, &file_of(&a, "c"), "*"]);
    until("the second process takes it in", async || {
        status().await == 200
    })
    .await;
    assert_eq!(first.press("/peers/c/remove").await.status, 200);
    until("the second process takes it out", async || {
        status().await == 403
    })
    .await;
    assert!(start.elapsed() < soon, "{:?}", start.elapsed());
}
