//! What ended long ago goes, and nothing runs again for it.

use std::{
    process::Output,
    sync::atomic::{AtomicBool, Ordering},
};

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::{
    audit,
    harness::{Fake, Peer, Store, eventually, id, message, text, until, update, url_of},
    processes,
};

/// What `--prune` says.
#[track_caller]
fn prune(peer: &Peer, age: &str) -> String {
    let output = peer.cli(&["--prune", age]);
    assert!(output.status.success(), "{output:?}");
    let words = String::from_utf8(output.stdout).unwrap();
    assert_eq!(words.lines().count(), 1, "{words}");
    words.trim().to_owned()
}

#[track_caller]
fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Waits until nothing is on its way.
async fn settled(peer: &Peer) {
    until("all is delivered", async || {
        let pending = "SELECT count(*) FROM outbox WHERE state = 0";
        peer.database.number(pending).await == 0
    })
    .await;
}

/// As if all messages had come so many days earlier.
async fn age_messages(peer: &Peer, days: u64) {
    let micros = days * 24 * 3600 * 1_000_000;
    let sql = format!("UPDATE inbox SET received_at = received_at - {micros}");
    peer.database.execute(&sql).await;
}

async fn tombstones(peer: &Peer) -> i64 {
    let sql = "SELECT count(*) FROM tasks WHERE pruned_at IS NOT NULL";
    peer.database.number(sql).await
}

on_each_store! {
    async fn a_message_whose_task_was_pruned_has_no_effect_however_late_it_is_repeated(store) {
        let (sender, peer) = (Fake::new().await, Peer::start(&store, "b").await);
        let task = message(&sender.url, "echo", json!("secret"));
        let raw = message(&sender.url, "note", json!("noted"));
        for message in [&task, &raw] {
            assert_eq!(peer.deliver("work", message).await.status, 200);
        }
        let task_id = text(&task, "task_id");
        peer.output(task_id).await;
        until("the raw message is handled", async || peer.database.count("noted").await == 1).await;
        settled(&peer).await;
        prune(&peer, "0s");
        assert_eq!(peer.tasks(), Vec::<Value>::new());
        assert_eq!(tombstones(&peer).await, 1);

        // While it is remembered that the messages were accepted.
        for message in [&task, &raw] {
            assert_eq!(peer.deliver("work", message).await.status, 200);
        }
        let mut other = task.clone();
        other["data"] = json!("other");
        assert_eq!(peer.deliver("work", &other).await.status, 409);
        // And when it is not any more.
        age_messages(&peer, 20).await;
        prune(&peer, "0s");
        // The raw one is remembered for ever.
        assert_eq!(peer.database.count("inbox").await, 1);
        assert_eq!(peer.deliver("work", &task).await.status, 409);
        assert_eq!(peer.deliver("work", &raw).await.status, 200);
        let mut again = task.clone();
        again["message_id"] = json!(id());
        assert_eq!(peer.deliver("work", &again).await.status, 409);

        // Another one, to be sure that whatever the repetitions caused is over.
        let last = message(&sender.url, "echo", json!("last"));
        assert_eq!(peer.deliver("work", &last).await.status, 200);
        peer.output(text(&last, "task_id")).await;
        assert_eq!((peer.runs(task_id), peer.database.count("noted").await), (1, 1));
        assert_eq!((peer.tasks().len(), tombstones(&peer).await), (1, 1));
    }

    async fn a_late_update_of_a_pruned_task_is_acknowledged_and_ignored(store) {
        let (receiver, peer) = (Fake::new().await, Peer::start(&store, "a").await);
        let task = peer.send(&receiver.url, "work", "echo", json!("secret")).await;
        receiver.sees_task(&task).await;
        let finished = update(&receiver.url, &task, "finished", json!("the first"));
        assert_eq!(peer.deliver("internal.frestq", &finished).await.status, 200);
        peer.reaches(&task, "finished").await;
        settled(&peer).await;
        prune(&peer, "0s");
        let shown = |peer: &Peer| {
            let shown = peer.cli(&["--show-task", &task, "--json"]);
            serde_json::from_slice::<Value>(&shown.stdout).unwrap()
        };
        let before = shown(&peer);
        assert!(before["pruned_date"].is_string(), "{before}");
        assert_eq!((&before["output_data"], &before["input_data"]), (&json!(null), &json!(null)));
        for (message, status) in [
            (&finished, 200),
            (&update(&receiver.url, &task, "executing", json!("late")), 200),
            (&update(&receiver.url, &task, "error", json!("late")), 200),
            // It is still nobody else's business.
            (&update(&url_of(9), &task, "error", json!("forged")), 404),
        ] {
            assert_eq!(peer.deliver("internal.frestq", message).await.status, status);
        }
        assert_eq!(shown(&peer), before);
        for arguments in [
            &["--watch", &task][..],
            &["--retry", &task],
            &["--cancel", &task],
            &["--finish", &task, "1"],
        ] {
            let words = refused(&peer.cli(arguments));
            assert!(words.contains(&format!("task {task} was pruned at ")), "{arguments:?}: {words}");
        }
    }

    async fn to_read_the_output_of_a_pruned_task_is_an_error_that_says_so(store) {
        let (a, b) = (Peer::start(&store, "a").await, Peer::start(&store, "b").await);
        let order = json!({"to": b.url, "queue": "work", "action": "echo", "data": 1});
        let request = a.http.post(a.view("/read-twice/pruned"));
        let request = request.header("content-type", "application/json").body(order.to_string());
        let prune_and_open = async {
            until("the task has ended", async || {
                a.tasks().iter().any(|task| task["status"] == "finished")
            })
            .await;
            settled(&a).await;
            prune(&a, "0s");
            assert_eq!(a.tasks(), Vec::<Value>::new());
            a.open("pruned");
        };
        let (answer, ()) = tokio::join!(a.ask(request), prune_and_open);
        let answer = answer.unwrap();
        assert_eq!(answer.status, 410, "{}", answer.body);
        assert!(answer.body.contains("was pruned at"), "{}", answer.body);
    }

    async fn the_operator_prunes_with_the_peer_up_and_down(store) {
        let mut peer = Peer::start_with(&store, "a", &[audit::ON]).await;
        let running = peer.send(&peer.url, "work", "until_cancelled", json!(null)).await;
        let mut gone = Vec::new();
        for serves in [true, false] {
            for n in 0..3 {
                let task = peer.send(&peer.url, "work", "echo", json!(n)).await;
                peer.output(&task).await;
                gone.push(task);
            }
            peer.started(&running, 1).await;
            if !serves {
                peer.kill();
            }
            // Nothing is so old.
            assert!(prune(&peer, "1h").contains("pruned 0 tasks"));
            assert_eq!(peer.tasks().len(), 4);
            assert_eq!(audit::rows(&peer).len(), usize::from(!serves));
            let words = prune(&peer, "0s");
            assert!(words.contains("pruned 3 tasks and 0 messages"), "{words}");
            let left = peer.tasks();
            let [left] = &left[..] else { panic!("{left:?}") };
            assert_eq!(text(left, "id"), running);
            for task in &gone {
                assert!(refused(&peer.cli(&["--show-task", task])).contains("no task here"));
            }
        }
        assert_eq!(peer.database.count("requests").await, 0);
        let rows = audit::rows(&peer);
        assert_eq!(rows.len(), 2);
        for row in &rows {
            assert_eq!((text(row, "peer"), text(row, "action")), ("operator", "prune"));
            assert!(text(row, "answer").starts_with("removing what ended before 20"), "{row}");
        }
        audit::sound(&peer).await;
        assert_eq!(peer.cli(&["--prune", "old"]).status.code(), Some(2));
    }

    async fn pruning_beside_a_running_load_spoils_nothing(store) {
        let settings = [audit::ON];
        let a = Peer::start_with(&store, "a", &settings).await;
        let b = Peer::start_with(&store, "b", &settings).await;
        load(&a, &b, &[&a, &b]).await;
    }

    async fn retention_prunes_by_itself(store) {
        let settings = [audit::ON, ("FRESTQ_RETENTION", "1ms")];
        let peer = Peer::start_with(&store, "a", &settings).await;
        for n in 0..3 {
            peer.send(&peer.url, "work", "echo", json!(n)).await;
        }
        let kept = peer.send(&peer.url, "work", "until_cancelled", json!(null)).await;
        eventually("they are pruned", async || {
            let left = peer.tasks();
            (left.len() == 1).then(|| assert_eq!(text(&left[0], "id"), kept))
        })
        .await;
        until("it is recorded", async || {
            let rows = audit::rows(&peer);
            rows.iter().any(|row| text(row, "peer") == "retention")
        })
        .await;
    }
}

/// A has B run tasks, alone and in trees, while these prune all that they can, again and again.
async fn load(a: &Peer, b: &Peer, pruned: &[&Peer]) {
    const TASKS: i64 = 400;
    const TREES: i64 = 40;
    let task = |to: &str, action: &str, data: Value| json!({"task": {"to": to, "queue": "work", "action": action, "data": data}});
    let tree = json!({"parallel": [
        task(&a.url, "grow", json!([task(&b.url, "echo", json!(1)), task(&a.url, "echo", json!(2))])),
        task(&b.url, "echo", json!(3)),
    ]});
    let over = AtomicBool::new(false);
    let calls = async {
        let calls = (0..TASKS).map(async |n| {
            let answer = a.call(&b.url, "work", "count", json!({"n": n})).await;
            assert_eq!(answer["output"], n * 2, "{answer}");
        });
        let trees = (0..TREES).map(|_| a.plant(&tree));
        tokio::join!(join_all(calls), join_all(trees));
        for peer in [a, b] {
            until("all trees have ended", async || {
                let open = "SELECT count(*) FROM tasks WHERE status < 10";
                peer.database.number(open).await == 0
            })
            .await;
        }
        over.store(true, Ordering::SeqCst);
    };
    let prunes = async {
        let mut rounds = 0;
        while !over.load(Ordering::SeqCst) || rounds < 2 {
            for peer in pruned {
                tokio::task::block_in_place(|| prune(peer, "0s"));
            }
            tokio::task::yield_now().await;
            rounds += 1;
        }
    };
    tokio::join!(calls, prunes);
    for peer in [a, b] {
        settled(peer).await;
        prune(peer, "0s");
        assert_eq!(peer.tasks(), Vec::<Value>::new());
        // Of each tree, those two that went from one peer to the other.
        assert_eq!(tombstones(peer).await, TASKS + 2 * TREES);
        let failed = "SELECT count(*) FROM tasks WHERE status <> 10";
        assert_eq!(peer.database.number(failed).await, 0);
        assert_eq!(peer.database.count("outbox").await, 0);
        let (sound, said) = audit::verify(peer, &[]);
        assert!(sound, "{said}");
    }
    let counted = "SELECT count(DISTINCT task) FROM counted";
    assert_eq!(b.database.number(counted).await, TASKS);
    assert_eq!(b.database.count("counted").await, TASKS);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_prune_one_database_beside_a_running_load() {
    let Some(store) = Store::postgres() else {
        return;
    };
    let settings = [audit::ON, ("FRESTQ_RETENTION", "1ms")];
    let a = Peer::start_with(&store, "a", &[audit::ON]).await;
    let [first, second] = processes::pair(&store, &settings).await;
    load(&a, &first, &[&first, &second]).await;
}
