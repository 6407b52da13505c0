//! Whatever bytes come: a good answer, a truthful one, and a peer that goes on.
//!
//! The seed is printed; `FRESTQ_TEST_SEED` repeats the very same bytes.

use std::io::Write as _;

use serde_json::{Value, json};

use crate::harness::{Peer, message, text, until, update, url_of};

/// Bytes that mean something to a reader of JSON.
const SPECIAL: &[u8] = b"{}[]\",:\\0-eE.tfn\x00\x1f\x7f\xc3\xa9\xff";

/// Breaks a few bytes of a message.
fn mutate(luck: &mut fastrand::Rng, text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..luck.usize(1..4) {
        if bytes.is_empty() {
            break;
        }
        let at = luck.usize(0..bytes.len());
        match luck.u8(0..6) {
            0 => drop(bytes.remove(at)),
            1 => bytes.insert(at, SPECIAL[luck.usize(0..SPECIAL.len())]),
            2 => bytes[at] = SPECIAL[luck.usize(0..SPECIAL.len())],
            3 => bytes[at] = luck.u8(..),
            4 => bytes.truncate(at.max(1)),
            _ => {
                let end = (at + luck.usize(1..20)).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                let to = luck.usize(0..bytes.len());
                bytes.splice(to..to, piece);
            }
        }
    }
    bytes
}

/// Puts another value in the place of a member.
fn replace(luck: &mut fastrand::Rng, message: &mut Value) {
    let values = [
        json!(null),
        json!(true),
        json!(0),
        json!(-1e300),
        json!(""),
        json!("x"),
        json!("\u{0}"),
        json!("é\u{202e}\u{fffd}😀"),
        json!("y".repeat(5000)),
        json!("2026-11-24T02:50:52.123456"),
        json!("http://127.0.0.1:1/api/queues"),
        json!([]),
        json!([[], {}]),
        json!({}),
        json!({"status": "finished"}),
        json!({"rev": -1, "destination": "http://127.0.0.1:1/"}),
    ];
    let fields = [
        "message_id",
        "action",
        "sender_url",
        "task_id",
        "data",
        "async_data",
        "pingback_date",
        "expiration_date",
        "info",
        "info_text",
        "ext",
        "unheard_of",
    ];
    for _ in 0..luck.usize(1..3) {
        let value = values[luck.usize(0..values.len())].clone();
        message[fields[luck.usize(0..fields.len())]] = value;
    }
}

on_each_store! {
    async fn whatever_bytes_come_the_answer_is_true_and_the_peer_goes_on(store) {
        let seed = std::env::var("FRESTQ_TEST_SEED")
            .ok()
            .and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| fastrand::u64(..));
        let _ = writeln!(std::io::stderr(), "fuzzing: FRESTQ_TEST_SEED={seed}");
        let mut luck = fastrand::Rng::with_seed(seed);
        let mut peer = Peer::start(&store, "b").await;
        let sender = url_of(9);
        let mut accepted = 0;
        for round in 0..1500 {
            let (queue, mut message) = match luck.u8(0..4) {
                0 => (
                    "internal.frestq",
                    update(&sender, "some-task", "finished", json!(1)),
                ),
                1 => {
                    let entry = message(&sender, "echo", json!(1));
                    let entries = json!([{"queue": "work", "message": entry}]);
                    ("internal.frestq", message(&sender, "frestq.batch", entries))
                }
                2 => ("work", message(&sender, "note", json!({"a": [1, "é"]}))),
                _ => ("work", message(&sender, "echo", json!({"a": [1, "é"]}))),
            };
            let body = if luck.bool() {
                mutate(&mut luck, &message.to_string())
            } else {
                replace(&mut luck, &mut message);
                message.to_string().into_bytes()
            };
            let shown = String::from_utf8_lossy(&body).into_owned();
            let answer = peer.post(queue, body).await;
            match answer.status {
                200 if answer.body.is_empty() => accepted += 1,
                200 => {
                    let answers = answer.json();
                    let entries = answers.as_array().unwrap();
                    let taken = entries
                        .iter()
                        .filter(|entry| entry["status"] == 200)
                        .count();
                    accepted += i64::try_from(taken).unwrap();
                }
                400 | 403 | 404 | 409 | 413 => drop(answer.refusal()),
                status => panic!("round {round}: {status} {}: {shown}", answer.body),
            }
        }
        assert!(accepted > 50, "hardly a message got through: {accepted}");
        assert_eq!(peer.database.count("inbox").await, accepted);
        assert_eq!(peer.database.count("tasks").await, accepted);
        assert!(peer.is_running());
        let task = message(&sender, "echo", json!(1));
        assert_eq!(peer.deliver("work", &task).await.status, 200);
        assert_eq!(peer.output(text(&task, "task_id")).await, 1);
        until("whatever was accepted has ended", async || {
            peer.database
                .number("SELECT count(*) FROM tasks WHERE status < 10")
                .await
                == 0
        })
        .await;
    }
}
