//! After its expiration date a task is worthless, wherever it is.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::harness::{Fake, Peer, message, text, until, url_of};

/// A message whose task expires so long after now.
fn expiring(sender: &str, action: &str, data: Value, milliseconds: i64) -> Value {
    let at = Timestamp::from_millisecond(Timestamp::now().as_millisecond() + milliseconds).unwrap();
    let mut task = message(sender, action, data);
    task["expiration_date"] = json!(at.to_string());
    task
}

on_each_store! {
    /// An original peer knows no such status: it is told of an error.
    async fn a_task_that_expires_while_it_runs_is_reported_as_an_error_and_stays_expired(store) {
        let (b, a) = (Peer::start(&store, "b").await, Fake::new().await);
        let task = expiring(&a.url, "wait", json!({"gate": "go"}), 700);
        let id = text(&task, "task_id");
        assert_eq!(b.deliver("work", &task).await.status, 200);
        b.started(id, 1).await;
        let update = a.sees_task(id).await.json();
        assert_eq!(update["data"]["status"], "error");
        assert_eq!(update["data"]["output_data"]["error"], "expired");
        let expired = b.reaches(id, "expired").await;
        // Its handler ends, and that counts for nothing.
        b.open("go");
        let next = message(&a.url, "wait", json!({"gate": "go"}));
        b.deliver("work", &next).await;
        a.sees_task(text(&next, "task_id")).await;
        assert_eq!(a.seen().len(), 2);
        assert_eq!(b.task(id).await, expired);
    }

    async fn a_task_that_comes_too_late_is_not_run(store) {
        let (b, a) = (Peer::start(&store, "b").await, Fake::new().await);
        let task = expiring(&a.url, "count", json!({"n": 1}), -60_000);
        assert_eq!(b.deliver("work", &task).await.status, 200);
        let update = a.sees_task(text(&task, "task_id")).await.json();
        assert_eq!(update["data"]["output_data"]["error"], "expired");
        assert_eq!(b.database.count("counted").await, 0);
    }

    async fn a_task_that_expires_in_its_queue_is_not_run(store) {
        let b = Peer::start_with(&store, "b", &[("FRESTQ_QUEUES__NARROW__CONCURRENCY", "1")]).await;
        let first = message(&url_of(9), "wait", json!({"gate": "go"}));
        let waits = expiring(&url_of(9), "wait", json!({"gate": "go"}), 500);
        for task in [&first, &waits] {
            assert_eq!(b.deliver("narrow", task).await.status, 200);
        }
        b.reaches(text(&waits, "task_id"), "expired").await;
        b.open("go");
        b.output(text(&first, "task_id")).await;
        let last = message(&url_of(9), "wait", json!({"gate": "go"}));
        b.deliver("narrow", &last).await;
        b.output(text(&last, "task_id")).await;
        assert_eq!(b.runs(text(&waits, "task_id")), 0);
    }

    async fn a_tree_that_expires_does_so_on_every_peer(store) {
        let (a, b) = (Peer::start(&store, "a").await, Peer::start(&store, "b").await);
        let endless = |peer: &Peer| {
            json!({"task": {"to": peer.url, "queue": "work", "action": "until_cancelled"}})
        };
        let below = json!({"task": {
            "to": b.url, "queue": "work", "action": "grow", "data": [endless(&a)],
        }});
        let plans = json!([{"parallel": [endless(&a), endless(&b), below]}]);
        let root = a.plant(&json!({"within": {"ms": 2000, "plans": plans}})).await;
        a.reaches(&root, "expired").await;
        until("all of it has ended, on both", async || {
            let all = [a.tasks(), b.tasks()].concat();
            // To the other peer, what has expired is an error.
            let ends = ["expired", "cancelled", "error", "undeliverable"];
            all.iter().all(|task| ends.contains(&text(task, "status")))
        })
        .await;
        until("every handler that runs sees it", async || {
            [&a, &b].iter().all(|peer| peer.files("cancelled-") == peer.files("run-"))
        })
        .await;
    }

    /// An original peer can't be called off: the date is all that it hears.
    async fn a_task_for_another_peer_is_sent_with_the_date_of_the_tree_that_it_is_in(store) {
        let (a, fake) = (Peer::start(&store, "a").await, Fake::new().await);
        let task = |expires: Option<u64>| {
            json!({"task": {"to": fake.url, "queue": "q", "action": "act", "expires_in_ms": expires}})
        };
        let plans = json!([{"parallel": [task(None), task(Some(30_000)), task(Some(900_000))]}]);
        let root = a.plant(&json!({"within": {"ms": 60_000, "plans": plans}})).await;
        let date = a.task(&root).await["expiration_date"].clone();
        let dates: Vec<Value> = fake
            .sees(3)
            .await
            .iter()
            .map(|seen| seen.json()["expiration_date"].clone())
            .collect();
        let date: Timestamp = date.as_str().unwrap().parse().unwrap();
        // As the original writes them: in UTC, and without saying so.
        let utc = |date: &Value| format!("{}Z", date.as_str().unwrap()).parse().unwrap();
        let dates: Vec<Timestamp> = dates.iter().map(utc).collect();
        let own = dates.iter().filter(|at| **at < date);
        assert_eq!((own.count(), dates.iter().max()), (1, Some(&date)), "{dates:?}");
    }

    async fn a_decision_that_comes_too_late_does_not_count(store) {
        let a = Peer::start(&store, "a").await;
        let after = json!({"task": {"to": a.url, "queue": "work", "action": "echo"}});
        let root = a.plant(&json!({"sequential": [{"short_external": {"ms": 300}}, after]})).await;
        let error = a.error(&root).await;
        assert_eq!(error["error"], "expired");
        let tasks = a.tasks();
        let external = tasks.iter().find(|task| task["task_type"] == "external").unwrap();
        assert_eq!(external["status"], "expired");
        assert_eq!(a.task_of("echo")["status"], "cancelled");
        let late = a.cli(&["--finish", text(external, "id"), "true"]);
        let words = String::from_utf8(late.stderr).unwrap();
        assert!(!late.status.success() && words.contains("has ended before, as expired"), "{words}");
    }

    async fn what_expires_while_the_peer_is_down_is_expired_at_its_start(store) {
        let mut a = Peer::start(&store, "a").await;
        let order =
            json!({"to": url_of(9), "queue": "work", "action": "echo", "expires_in_ms": 300});
        let task = a.order(&order).await;
        a.kill();
        let date = "SELECT count(*) FROM tasks WHERE expires_at IS NOT NULL";
        assert_eq!(a.database.number(date).await, 1);
        let at = Timestamp::now()
            .checked_add(Duration::from_millis(300))
            .unwrap();
        until("the date has come", async || Timestamp::now() > at).await;
        a.run().await;
        until("the task has ended", async || {
            ["expired", "undeliverable"].contains(&text(&a.task(&task).await, "status"))
        })
        .await;
    }

    async fn a_delayed_local_task_is_not_started_earlier_even_after_a_crash(store) {
        let mut a = Peer::start(&store, "a").await;
        let before = std::time::Instant::now();
        let order =
            json!({"to": a.url, "queue": "work", "action": "echo", "data": 1, "delay_ms": 1500});
        let task = a.order(&order).await;
        a.kill();
        a.run().await;
        a.started(&task, 1).await;
        assert!(before.elapsed() >= Duration::from_millis(1490));
        assert_eq!(a.output(&task).await, 1);
    }
}
