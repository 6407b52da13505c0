//! A peer under attack, by somebody who is registered with it, or by strangers. Whatever they try:
//! nothing gets in, no answer is a fault of ours, the memory stays flat, and the others are served.

mod floods;
mod forging;
mod gluttony;
mod servers;
mod words;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::harness::{
    Answer, Fake, Peer, Store, message,
    secure::{behind_tls, certificate, client, post, register, secured},
    until,
};

/// How much more memory an attack may make a peer take: that of a few large requests.
const FLAT: u64 = 48 * 1024 * 1024;

/// B is attacked; A is honest. C is registered too, and whatever the test makes of it.
struct Siege {
    a: Peer,
    b: Peer,
    /// Shows C's certificate.
    c: reqwest::Client,
    c_url: String,
    /// What B had in the beginning.
    memory: u64,
}

impl Siege {
    async fn new(store: &Store) -> Self {
        Self::with(store, &[], Fake::new().await).await.0
    }

    /// B with settings, and C with a server of this kind.
    async fn with(store: &Store, settings: &[(&str, &str)], server: Fake) -> (Self, Fake) {
        let ((mut a, a_pin), (mut b, b_pin)) =
            (secured(store, "a").await, secured(store, "b").await);
        for (key, value) in settings {
            b.set(key, value);
        }
        let c_pin = certificate(&b, "c");
        certificate(&b, "stranger");
        let server = behind_tls(server, &b, "c").await;
        register(&mut a, "b", &b.url, &[&b_pin], &["*"]);
        register(&mut b, "a", &a.url, &[&a_pin], &["*"]);
        register(&mut b, "c", &server.url, &[&c_pin], &["*"]);
        a.run().await;
        b.run().await;
        let mut siege = Self {
            c: client(&b, "c"),
            c_url: server.url.clone(),
            memory: 0,
            a,
            b,
        };
        // What is made once is made now.
        for _ in 0..20 {
            siege.serves_a().await;
        }
        assert_eq!(siege.honest(&json!("from C")).await.status, 200);
        until("C's message is noted", async || {
            siege.b.database.count("noted").await == 1
        })
        .await;
        siege.memory = siege.b.memory();
        (siege, server)
    }

    /// A message of C's that is in order.
    async fn honest(&self, data: &Value) -> Answer {
        self.post("work", &message(&self.c_url, "note", data.clone()))
            .await
    }

    /// C posts a message.
    async fn post(&self, queue: &str, message: &Value) -> Answer {
        post(&self.b, &self.c, queue, message).await
    }

    /// C posts a batch; what each of its messages is answered.
    async fn batch(&self, entries: &[Value]) -> Vec<Value> {
        let batch = message(&self.c_url, "frestq.batch", json!(entries));
        let answer = self.post("internal.frestq", &batch).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json().as_array().unwrap().clone()
    }

    async fn serves_a(&self) {
        let ada = json!({"username": "ada"});
        let said = self
            .a
            .call(&self.b.url, "say_queue", "hello_world", ada)
            .await;
        assert_eq!(said["output"], "hello ada!");
    }

    /// How many rows there are.
    async fn rows(&self) -> BTreeMap<String, i64> {
        self.b.database.counts().await
    }

    /// The attack is over, and has left nothing but the rows that there were.
    async fn is_over(&self, before: &BTreeMap<String, i64>) {
        assert_eq!(self.rows().await, *before);
        self.holds().await;
    }

    /// B is as it was, and serves its honest peer.
    async fn holds(&self) {
        self.serves_a().await;
        let (before, now) = (self.memory, self.b.memory());
        assert!(now < before + FLAT, "{before} bytes became {now}");
        let log = self.b.log();
        assert!(!log.contains("panicked"), "{log}");
    }
}

/// Not taken, and by no fault of the peer's own.
#[track_caller]
fn is_refused(status: u16, words: &str) {
    assert!(
        (400..500).contains(&status) || status == 503,
        "{status} {words}"
    );
}
