//! What an operator decides and looks at, with the server up and with it down.

use std::process::Output;

use serde_json::{Value, json};

use crate::harness::{EXTERNAL_A, EXTERNAL_B, Peer, Store, eventually, text, until};

/// Two running peers, one of which has a person decide.
async fn pair(store: &Store) -> (Peer, Peer) {
    let mut a = Peer::example(store, "a", EXTERNAL_A).await;
    let mut b = Peer::example(store, "b", EXTERNAL_B).await;
    a.set("PEER_B", &b.url);
    b.set("PEER_A", &a.url);
    a.run().await;
    b.run().await;
    (a, b)
}

/// The id of the one task that waits for a person.
async fn waiting(peer: &Peer) -> String {
    eventually("a task waits for a person", async || {
        let filters = [
            "--tasks",
            "--json",
            "--filters",
            "task_type=external",
            "status=executing",
        ];
        let listed: Vec<Value> = serde_json::from_slice(&peer.cli(&filters).stdout).unwrap();
        Some(text(listed.first()?, "id").to_owned())
    })
    .await
}

/// The one line that a command says, which succeeds.
#[track_caller]
fn said(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{errors}");
    let words = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(words.lines().count(), 1, "{words}");
    words
}

/// Why a command fails.
#[track_caller]
fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!words.contains("panicked"), "{words}");
    words
}

/// Nothing of what the command line needs for itself may stay.
async fn leaves_nothing(peer: &Peer) {
    assert_eq!(peer.database.count("requests").await, 0);
}

/// What is left of processes that have stopped.
async fn nodes(peer: &Peer) -> i64 {
    peer.database.number("SELECT count(*) FROM nodes").await
}

on_each_store! {
    async fn a_person_finishes_a_task_while_the_peer_serves(store) {
        let (a, b) = pair(&store).await;
        let task = a.say_hello("ada").await;
        let id = waiting(&b).await;
        let words = said(&b.cli(&["--finish", &id, r#"{"by": "ana"}"#]));
        assert!(words.contains(&id) && words.contains("finished"), "{words}");
        assert_eq!(b.task(&id).await["output_data"], json!({"by": "ana"}));
        a.reaches(&task, "finished").await;
        let words = refused(&b.cli(&["--finish", &id, "1"]));
        assert!(words.contains("ended before, as finished"), "{words}");
        leaves_nothing(&b).await;
    }

    async fn a_person_denies_a_task_while_nobody_serves(store) {
        let (a, mut b) = pair(&store).await;
        let task = a.say_hello("ada").await;
        let id = waiting(&b).await;
        a.reaches(&task, "executing").await;
        b.stop().await;
        said(&b.cli(&["--deny", &id, "not this one"]));
        let denied = b.reaches(&id, "error").await;
        assert_eq!(denied["output_data"], json!({"error": "denied", "message": "not this one"}));
        assert_eq!(nodes(&b).await, 0);
        leaves_nothing(&b).await;
        // What comes of it for others is delivered once somebody serves again.
        assert_eq!(a.task(&task).await["status"], "executing");
        b.run().await;
        assert_eq!(a.error(&task).await["error"], "denied");
    }

    async fn what_ends_by_itself_is_not_finished_by_hand(store) {
        let mut peer = Peer::start(&store, "a").await;
        let id = peer.send(&peer.url, "work", "until_cancelled", json!(null)).await;
        peer.started(&id, 1).await;
        let words = refused(&peer.cli(&["--finish", &id, "1"]));
        assert!(words.contains("not external"), "{words}");
        let words = refused(&peer.cli(&["--retry", &id]));
        assert!(words.contains("has not failed"), "{words}");
        refused(&peer.cli(&["--cancel", "no-such-task"]));
        let usage = peer.cli(&["--finish", &id, "not json"]);
        assert_eq!(usage.status.code(), Some(2));
        peer.kill();
    }

    async fn the_operator_calls_off_what_runs(store) {
        let peer = Peer::start(&store, "a").await;
        let id = peer.send(&peer.url, "work", "until_cancelled", json!(null)).await;
        peer.started(&id, 1).await;
        let short = &id[..id.len() - 1];
        let words = said(&peer.cli(&["--cancel", short]));
        assert!(words.contains(&id), "{words}");
        peer.reaches(&id, "cancelled").await;
        until("the handler sees it", async || peer.has_stopped(&id)).await;
        leaves_nothing(&peer).await;
    }

    async fn a_task_that_is_called_off_while_nobody_serves_never_runs(store) {
        let (mut a, b) = (Peer::start(&store, "a").await, Peer::start(&store, "b").await);
        let running = a.send(&b.url, "work", "until_cancelled", json!(null)).await;
        b.started(&running, 1).await;
        let delayed = a
            .order(&json!({"to": a.url, "queue": "work", "action": "echo", "data": 1, "delay_ms": 1000}))
            .await;
        a.stop().await;
        said(&a.cli(&["--cancel", &delayed]));
        said(&a.cli(&["--cancel", &running]));
        assert_eq!(nodes(&a).await, 0);
        a.run().await;
        b.reaches(&running, "cancelled").await;
        until("B's handler sees it", async || b.has_stopped(&running)).await;
        assert_eq!(a.task(&delayed).await["status"], "cancelled");
        assert_eq!(a.task(&delayed).await["attempt"], 0);
    }

    async fn a_failed_task_is_retried_as_a_new_one(store) {
        let (mut a, b) = (Peer::start(&store, "a").await, Peer::start(&store, "b").await);
        let task = |to: &str, action: &str, data: Value| {
            json!({"task": {"to": to, "queue": "work", "action": action, "data": data}})
        };
        let group = a
            .plant(&json!({"parallel": [
                task(&a.url, "grow", json!([task(&b.url, "fail", json!("no"))])),
                task(&b.url, "echo", json!(7)),
            ]}))
            .await;
        a.error(&group).await;
        let child = text(&a.task_of("grow"), "id").to_owned();
        let words = refused(&a.cli(&["--retry", &child]));
        assert!(words.contains(&group), "{words}");
        let received = text(&b.task_of("fail"), "id").to_owned();
        let words = refused(&b.cli(&["--retry", &received]));
        assert!(words.contains(&a.url), "{words}");

        // The group, its two tasks, and the one that the handler adds again.
        assert_eq!(a.tasks().len(), 4);
        let words = said(&a.cli(&["--retry", &group]));
        let fresh = words.trim().rsplit(' ').next().unwrap();
        a.error(fresh).await;
        assert_eq!(a.tasks().len(), 8);
        assert_eq!(a.task(&group).await["status"], "error");

        a.stop().await;
        let words = said(&a.cli(&["--retry", &group]));
        let fresh = words.trim().rsplit(' ').next().unwrap().to_owned();
        // Planted, and nothing runs before somebody serves.
        assert_eq!(a.tasks().len(), 11);
        assert_eq!(nodes(&a).await, 0);
        a.run().await;
        a.error(&fresh).await;
        assert_eq!(a.tasks().len(), 12);
        leaves_nothing(&a).await;
    }

    /// It left its lock to the system, or its lease to the others.
    async fn a_process_that_was_killed_does_not_hold_decisions_up(store) {
        let (a, mut b) = pair(&store).await;
        let task = a.say_hello("ada").await;
        let id = waiting(&b).await;
        b.kill();
        said(&b.cli(&["--finish", &id, "null"]));
        b.reaches(&id, "finished").await;
        b.run().await;
        a.reaches(&task, "finished").await;
    }
}
