//! Peers that know each other by their certificates, and what becomes of everybody else.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use crate::{
    audit,
    harness::{
        HELLOSSL_A, HELLOSSL_B, Peer, Store, eventually, id, message,
        secure::{
            assert_untouched, certificate, client, complaint, file_of, hello, pair, peer_line,
            post, register, secured, show,
        },
        text, until, update,
    },
};

on_each_store! {
    async fn a_task_goes_to_a_registered_peer_and_its_result_comes_back(store) {
        let (a, b) = pair(&store, &["say_queue/hello_world"]).await;
        let answer = a.call(&b.url, "say_queue", "hello_world", json!({"username": "ada"})).await;
        assert_eq!(answer["output"], "hello ada!");
        // That a message was delivered is written down in its own time.
        until("nothing waits any more", async || {
            let line = peer_line(&a, "b");
            (&line["breaker"], &line["backlog"]) == (&json!("closed"), &json!(0))
        })
        .await;
    }

    async fn the_certificate_of_whoever_asked_is_recorded(store) {
        let ((mut a, a_pin), (mut b, b_pin)) = (secured(&store, "a").await, secured(&store, "b").await);
        register(&mut a, "b", &b.url, &[&b_pin], &[]);
        register(&mut b, "a", &a.url, &[&a_pin], &["*"]);
        a.run().await;
        b.run().await;
        let task = a.send(&b.url, "work", "echo", json!(1)).await;
        assert_eq!(a.output(&task).await, 1);
        // Whoever is refused leaves no row.
        let refused = post(&b, &b.http, "work", &message(&a.url, "echo", json!(1))).await;
        assert_eq!(refused.status, 403);
        let [asked] = &audit::rows(&b)[..] else { panic!("{:?}", audit::rows(&b)) };
        assert_eq!((text(asked, "certificate"), text(asked, "peer")), (&*a_pin, &*a.url));
        assert_eq!((text(asked, "action"), text(asked, "task_id")), ("echo", &*task));
        for answered in audit::rows(&a) {
            assert_eq!((text(&answered, "certificate"), text(&answered, "peer")), (&*b_pin, &*b.url));
            assert_eq!(text(&answered, "action"), "frestq.update_task");
        }
        audit::sound(&a).await;
        audit::sound(&b).await;
    }

    async fn the_example_says_hello_with_the_certificates_it_made(store) {
        let mut a = Peer::example(&store, "a", HELLOSSL_A).await;
        let mut b = Peer::example(&store, "b", HELLOSSL_B).await;
        for peer in [&mut a, &mut b] {
            peer.url = peer.url.replace("http:", "https:");
            certificate(peer, peer.name);
        }
        a.set("PEER_B", &b.url);
        a.set("FRESTQ_PEERS__B__URL", &b.url);
        a.set("FRESTQ_PEERS__B__CERTIFICATES", b.file("b.pem").to_str().unwrap());
        b.set("FRESTQ_PEERS__A__CERTIFICATES", a.file("a.pem").to_str().unwrap());
        b.set("FRESTQ_PEERS__A__URL", &a.url);
        a.run().await;
        b.run().await;
        let task = a.say_hello("ada").await;
        assert_eq!(a.output(&task).await, "hello ada!");
    }

    async fn a_stranger_is_refused_and_nothing_is_stored(store) {
        let (a, b) = pair(&store, &["*"]).await;
        certificate(&b, "stranger");
        let stranger = client(&b, "stranger");
        let none = b.http.clone();
        let mut words = Vec::new();
        for http in [&stranger, &none] {
            // Whoever he says he is, and whatever he sends.
            for body in [hello(&a.url), hello("https://stranger.example.org/api/queues"), json!(1)] {
                let answer = post(&b, http, "say_queue", &body).await;
                assert_eq!(answer.status, 403, "{}", answer.body);
                words.push(answer.refusal());
            }
            let forged = update(&a.url, &id(), "finished", json!(1));
            let answer = post(&b, http, "internal.frestq", &forged).await;
            assert_eq!(answer.status, 403);
            words.push(answer.refusal());
        }
        words.dedup();
        assert_eq!(words.len(), 1, "he learns which fault it was: {words:?}");
        assert_untouched(&b);
        let log = b.log();
        assert_eq!(log.matches("showed no certificate").count(), 1, "{log}");
        assert_eq!(log.matches("a certificate of no registered peer").count(), 1, "{log}");
    }

    async fn a_third_peer_that_is_not_registered_gets_nothing_done(store) {
        let (_a, b) = pair(&store, &["*"]).await;
        let (mut c, _) = secured(&store, "c").await;
        let b_pin = file_of(&b, "b");
        register(&mut c, "b", &b.url, &[&b_pin], &[]);
        c.run().await;
        let task = c.send(&b.url, "say_queue", "hello_world", json!({"username": "eve"})).await;
        let error = c.error(&task).await;
        assert!(error.to_string().contains("registered peer"), "{error}");
        assert_untouched(&b);
    }

    async fn nothing_is_sent_to_a_server_that_shows_another_certificate(store) {
        let ((mut a, a_pin), (mut b, b_pin)) = (secured(&store, "a").await, secured(&store, "b").await);
        let other = certificate(&a, "other");
        register(&mut a, "b", &b.url, &[&other], &[]);
        register(&mut b, "a", &a.url, &[&a_pin], &["*"]);
        a.run().await;
        b.run().await;
        let task = a.send(&b.url, "say_queue", "hello_world", json!({"username": "ada"})).await;
        let error = eventually("A says why", async || {
            peer_line(&a, "b")["last_error"].as_str().map(str::to_owned)
        })
        .await;
        assert!(error.contains(&b_pin) && error.contains("not registered"), "{error}");
        let line = peer_line(&a, "b");
        assert_eq!((&line["breaker"], &line["backlog"]), (&json!("open"), &json!(1)));
        assert_untouched(&b);
        assert_eq!(a.task(&task).await["status"], "created");
    }

    async fn nothing_is_sent_to_a_peer_that_is_not_registered(store) {
        let (a, _b) = pair(&store, &[]).await;
        let order = json!({"to": "https://stranger.example.org/api/queues", "queue": "q", "action": "a"});
        let answer = a.try_order(&order).await.unwrap();
        assert_eq!(answer.status, 403, "{}", answer.body);
        assert!(answer.body.contains("no registered peer"), "{}", answer.body);
        assert_untouched(&a);
    }

    async fn a_peer_that_sends_as_another_one_is_refused(store) {
        let ((mut a, a_pin), (mut b, b_pin)) = (secured(&store, "a").await, secured(&store, "b").await);
        let c_pin = certificate(&b, "c");
        let c_url = "https://c.example.org/api/queues";
        register(&mut a, "b", &b.url, &[&b_pin], &[]);
        register(&mut b, "a", &a.url, &[&a_pin], &["*"]);
        register(&mut b, "c", c_url, &[&c_pin], &["*"]);
        a.run().await;
        b.run().await;
        let c = client(&b, "c");
        let answer = post(&b, &c, "say_queue", &hello(&a.url)).await;
        assert_eq!(answer.status, 403, "{}", answer.body);
        assert!(answer.refusal().contains("sender_url"), "{}", answer.body);
        let entry = json!({"queue": "say_queue", "message": hello(&a.url)});
        let mut batch = message(c_url, "frestq.batch", json!([entry]));
        batch.as_object_mut().unwrap().remove("task_id");
        let answer = post(&b, &c, "internal.frestq", &batch).await;
        assert_eq!((answer.status, &answer.json()[0]["status"]), (200, &json!(403)));
        assert_untouched(&b);
        // Under its own name it may.
        assert_eq!(post(&b, &c, "say_queue", &hello(c_url)).await.status, 200);
    }

    async fn an_action_without_a_grant_is_answered_like_one_that_does_not_exist(store) {
        let (a, b) = pair(&store, &["say_queue/*", "work/echo"]).await;
        let http = client(&a, "a");
        let words = async |queue: &str, action: &str| {
            let answer = post(&b, &http, queue, &message(&a.url, action, json!(1))).await;
            assert_eq!(answer.status, 404, "{}", answer.body);
            answer.refusal().replace(queue, "QUEUE").replace(action, "ACTION")
        };
        assert!(!b.log().contains("no handler serves"), "{}", b.log());
        let granted = "registered here: ";
        let unknown = words("work", "no_such_action").await;
        assert_eq!(words("work", "coded").await, unknown);
        assert_eq!(words("narrow", "wait").await.split(granted).next(), unknown.split(granted).next());
        assert!(unknown.ends_with("registered here: say_queue/hello_world, QUEUE/echo"), "{unknown}");
        // Each message of a batch is judged on its own.
        let messages = ["echo", "coded"].map(|action| {
            json!({"queue": "work", "message": message(&a.url, action, json!(1))})
        });
        let mut batch = message(&a.url, "frestq.batch", json!(messages));
        batch.as_object_mut().unwrap().remove("task_id");
        let answer = post(&b, &http, "internal.frestq", &batch).await.json();
        assert_eq!((&answer[0]["status"], &answer[1]["status"]), (&json!(200), &json!(404)));
        assert_eq!(b.tasks().len(), 1);
        assert_eq!(b.log().matches("has no grant for \"work\"/\"coded\"").count(), 1);
    }

    async fn a_registered_peer_can_neither_report_on_nor_call_off_anothers_task(store) {
        let ((mut a, a_pin), (mut b, b_pin)) = (secured(&store, "a").await, secured(&store, "b").await);
        let c_pin = certificate(&b, "c");
        let c_url = "https://c.example.org/api/queues";
        for peer in [&mut a, &mut b] {
            register(peer, "c", c_url, &[&c_pin], &["*"]);
        }
        register(&mut a, "b", &b.url, &[&b_pin], &[]);
        register(&mut b, "a", &a.url, &[&a_pin], &["*"]);
        a.run().await;
        b.run().await;
        let task = a.send(&b.url, "work", "wait", json!({"gate": "go"})).await;
        b.started(&task, 1).await;
        let c = client(&b, "c");
        // C is known to both by now.
        for peer in [&a, &b] {
            let known = message(c_url, "echo", json!(1));
            assert_eq!(post(peer, &c, "work", &known).await.status, 200);
        }
        let guess = post(&a, &c, "internal.frestq", &update(c_url, &id(), "finished", json!(1))).await;
        let forged = post(&a, &c, "internal.frestq", &update(c_url, &task, "finished", json!(1))).await;
        assert_eq!((guess.status, forged.status), (404, 404));
        assert_eq!(guess.refusal(), forged.refusal());
        let mut cancel = message(c_url, "frestq.cancel_task", json!({}));
        cancel["task_id"] = json!(task);
        assert_eq!(post(&b, &c, "internal.frestq", &cancel).await.status, 404);
        b.open("go");
        assert_eq!(a.output(&task).await, 1);
    }

    async fn both_certificates_are_good_while_one_replaces_the_other(store) {
        let ((mut a, old), (mut b, b_pin)) = (secured(&store, "a").await, secured(&store, "b").await);
        let new = certificate(&a, "new");
        register(&mut a, "b", &b.url, &[&b_pin], &["*"]);
        register(&mut b, "a", &a.url, &[&old, &new], &["*"]);
        a.run().await;
        b.run().await;
        let ada = json!({"username": "ada"});
        let said = a.call(&b.url, "say_queue", "hello_world", ada.clone()).await;
        assert_eq!(said["output"], "hello ada!");
        a.stop().await;
        show(&mut a, "new");
        a.run().await;
        for (from, to) in [(&a, &b), (&b, &a)] {
            let said = from.call(&to.url, "say_queue", "hello_world", ada.clone()).await;
            assert_eq!(said["output"], "hello ada!");
        }
        // And the old one no longer, once it is taken out.
        b.stop().await;
        register(&mut b, "a", &a.url, &[&new], &["*"]);
        b.run().await;
        let answer = post(&b, &client(&a, "a"), "say_queue", &hello(&a.url)).await;
        assert_eq!(answer.status, 403);
        assert_eq!(post(&b, &client(&a, "new"), "say_queue", &hello(&a.url)).await.status, 200);
    }

    /// B's peers stand in its file, and A's certificate is replaced while both serve and a task runs.
    async fn certificates_and_peers_are_replaced_without_a_stop(store) {
        let ((mut a, old), (mut b, b_pin)) = (secured(&store, "a").await, secured(&store, "b").await);
        let new = certificate(&a, "new");
        let a_url = a.url.clone();
        let write_peers = |b: &Peer, pins: &[&str]| {
            let text = format!("[peers.a]\nurl = {a_url:?}\ncertificates = {pins:?}\nallow = [\"*\"]\n");
            std::fs::write(b.file("frestq.toml"), text).unwrap();
        };
        let reloaded = async |peer: &Peer, times: usize| {
            peer.hang_up();
            until("it has read them again", async || peer.log().matches("SIGHUP").count() == times).await;
        };
        register(&mut a, "b", &b.url, &[&b_pin], &[]);
        write_peers(&b, &[&old]);
        a.run().await;
        b.run().await;
        let running = a.send(&b.url, "work", "wait", json!({"gate": "go"})).await;
        b.started(&running, 1).await;
        let status = async |name: &str| {
            post(&b, &client(&a, name), "say_queue", &hello(&a_url)).await.status
        };
        assert_eq!((status("a").await, status("new").await), (200, 403));

        write_peers(&b, &[&old, &new]);
        reloaded(&b, 1).await;
        assert_eq!((status("a").await, status("new").await), (200, 200));
        for end in ["pem", "key"] {
            std::fs::copy(a.file(&format!("new.{end}")), a.file(&format!("a.{end}"))).unwrap();
        }
        reloaded(&a, 1).await;
        write_peers(&b, &[&new]);
        reloaded(&b, 2).await;
        let said = a.call(&b.url, "say_queue", "hello_world", json!({"username": "ada"})).await;
        assert_eq!(said["output"], "hello ada!");

        // What can't work changes nothing.
        write_peers(&b, &[]);
        reloaded(&b, 3).await;
        assert!(b.log().contains("the reload failed"), "{}", b.log());
        let said = a.call(&b.url, "say_queue", "hello_world", json!({"username": "ada"})).await;
        assert_eq!(said["output"], "hello ada!");
        b.open("go");
        assert_eq!(a.output(&running).await, 1);
        b.stop().await;
    }

    async fn a_handshake_that_never_ends_holds_up_nobody(store) {
        use std::io::Write as _;
        let (a, b) = pair(&store, &["*"]).await;
        let idle: Vec<_> = (0..50)
            .map(|_| {
                let mut idle = std::net::TcpStream::connect(("127.0.0.1", b.port)).unwrap();
                idle.write_all(&[0x16, 0x03]).unwrap();
                idle
            })
            .collect();
        let said = a.call(&b.url, "say_queue", "hello_world", json!({"username": "ada"})).await;
        assert_eq!(said["output"], "hello ada!");
        drop(idle);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_others_can_read_is_refused() {
    let (mut a, pin) = secured(&Store::Sqlite, "a").await;
    register(
        &mut a,
        "b",
        "https://b.example.org/api/queues",
        &[&pin],
        &[],
    );
    let key = a.file("a.key");
    let mode = std::fs::metadata(&key).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
    for arguments in [&[][..], &["--check"]] {
        let output = a.cli(arguments);
        assert!(!output.status.success());
        let words = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(
            words.contains("chmod 600") && words.contains("0640"),
            "{words}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_exists_is_not_overwritten() {
    let a = Peer::new(&Store::Sqlite, "a").await;
    certificate(&a, "a");
    let before = ["a.pem", "a.key"].map(|name| std::fs::read(a.file(name)).unwrap());
    let words = complaint(&a.cli(&["--new-certificate", "a"]));
    assert!(words.contains("not overwritten"), "{words}");
    std::fs::remove_file(a.file("a.pem")).unwrap();
    complaint(&a.cli(&["--new-certificate", "a"]));
    assert!(!a.file("a.pem").exists());
    assert_eq!(std::fs::read(a.file("a.key")).unwrap(), before[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_another_certificate_is_refused_at_start() {
    let (mut a, pin) = secured(&Store::Sqlite, "a").await;
    certificate(&a, "other");
    a.set("FRESTQ_TLS__KEY", "other.key");
    register(
        &mut a,
        "b",
        "https://b.example.org/api/queues",
        &[&pin],
        &[],
    );
    let words = complaint(&a.cli(&[]));
    assert!(
        words.contains("the key does not match the certificate"),
        "{words}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_without_identities_serves_its_own_machine_only() {
    let mut a = Peer::new(&Store::Sqlite, "a").await;
    a.createdb();
    a.set("FRESTQ_BIND", &format!("0.0.0.0:{}", a.port));
    let words = complaint(&a.cli(&[]));
    for line in ["loopback", "[tls]", "[peers.", "--new-certificate"] {
        assert!(words.contains(line), "{line}: {words}");
    }
    // With peers, but without a certificate, they could not be told apart.
    a.set("FRESTQ_BIND", &format!("127.0.0.1:{}", a.port));
    let pin = format!("sha256:{}", "1".repeat(64));
    register(
        &mut a,
        "b",
        "https://b.example.org/api/queues",
        &[&pin],
        &[],
    );
    let words = complaint(&a.cli(&[]));
    assert!(words.contains("[tls]"), "{words}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_with_identities_serves_any_address() {
    let (mut a, pin) = secured(&Store::Sqlite, "a").await;
    certificate(&a, "b");
    let b = file_of(&a, "b");
    register(
        &mut a,
        "b",
        "https://b.example.org/api/queues",
        &[&b],
        &["work/ecko"],
    );
    a.set("FRESTQ_BIND", &format!("0.0.0.0:{}", a.port));
    a.run().await;
    assert!(a.log().contains(&pin), "{}", a.log());
    until("it answers", async || {
        a.ask(a.http.get(a.view("/ready"))).await.is_ok()
    })
    .await;
    assert!(
        a.log()
            .contains("peers.b.allow: no handler serves work/ecko"),
        "{}",
        a.log()
    );
    let line = peer_line(&a, "b");
    assert!(text(&line, "url").contains("b.example.org"), "{line}");
}
