//! What an operator decides and looks at, with the server up and with it down.

use std::process::Output;

use serde_json::{Value, json};

use crate::{
    harness::{EXTERNAL_A, EXTERNAL_B, Peer, Store, eventually, text, until},
    processes,
};

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

/// Runs several commands at the same time.
fn at_once(peer: &Peer, commands: &[Vec<&str>]) -> Vec<Output> {
    std::thread::scope(|scope| {
        let runs: Vec<_> = commands
            .iter()
            .map(|command| scope.spawn(|| peer.cli(command)))
            .collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    })
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

    async fn of_several_that_decide_at_once_one_has_decided(store) {
        let (a, mut b) = pair(&store).await;
        for serves in [true, false] {
            let task = a.say_hello("ada").await;
            let id = waiting(&b).await;
            a.reaches(&task, "executing").await;
            if !serves {
                b.stop().await;
            }
            let commands = ["1", "2", "3", "4", "5"].map(|n| vec!["--finish", &id, n]);
            let outputs = at_once(&b, &commands);
            let done: Vec<_> = (1..).zip(&outputs).filter(|(_, o)| o.status.success()).collect();
            let [(winner, _)] = done[..] else { panic!("{outputs:?}") };
            for output in outputs.iter().filter(|output| !output.status.success()) {
                assert!(refused(output).contains("ended before, as finished"), "{output:?}");
            }
            let shown = b.cli(&["--show-task", &id, "--json"]);
            let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
            assert_eq!(shown["output_data"], winner);
            leaves_nothing(&b).await;
        }
        assert_eq!(nodes(&b).await, 0);
    }

    async fn decisions_and_a_start_do_not_get_into_each_others_way(store) {
        let mut peer = Peer::start(&store, "a").await;
        let mut tasks = Vec::new();
        for n in 0..6 {
            let order = json!({"to": peer.url, "queue": "work", "action": "echo", "data": n, "delay_ms": 3_600_000});
            tasks.push(peer.order(&order).await);
        }
        peer.stop().await;
        peer.spawn();
        let commands: Vec<_> = tasks.iter().map(|id| vec!["--cancel", id]).collect();
        for output in at_once(&peer, &commands) {
            said(&output);
        }
        for id in &tasks {
            eventually("it is called off", async || {
                let shown = peer.cli(&["--show-task", id, "--json"]);
                let shown: Value = serde_json::from_slice(&shown.stdout).ok()?;
                (shown["status"] == "cancelled").then_some(())
            })
            .await;
        }
        assert!(peer.is_running(), "{}", peer.log());
        leaves_nothing(&peer).await;
    }

    async fn a_tree_is_shown_with_the_peer_up_and_down(store) {
        let (a, mut b) = pair(&store).await;
        let task = a.say_hello("ada").await;
        let id = waiting(&b).await;
        a.reaches(&task, "executing").await;
        for serves in [true, false] {
            if !serves {
                b.stop().await;
            }
            let tree = b.cli(&["--tree", &task]);
            let tree = String::from_utf8(tree.stdout).unwrap();
            let lines: Vec<_> = tree.lines().collect();
            assert_eq!(lines.len(), 2, "{tree}");
            assert!(lines[0].starts_with(&task) && lines[0].contains(&a.url), "{tree}");
            assert!(lines[1].starts_with(&format!("└─ {id}  executing  external")), "{tree}");
            let whole = b.cli(&["--tree", &id, "--with-parents"]);
            let whole = String::from_utf8(whole.stdout).unwrap();
            assert!(whole.contains(&format!("└─ => {id}")), "{whole}");
            let json = b.cli(&["--tree", &task, "--json"]);
            let json: Value = serde_json::from_slice(&json.stdout).unwrap();
            assert_eq!(json["children"][0]["id"], id);
            let shown = b.cli(&["--show-external", &id, "--json"]);
            let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
            assert_eq!((&shown["waits"], &shown["root_id"]), (&json!(true), &json!(task)));
            assert_eq!(shown["label"], "approve_hello");
        }
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

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_called_off_whichever_process_is_asked() {
    let Some(store) = Store::postgres() else {
        return;
    };
    let [first, second] = processes::pair(&store, &[]).await;
    // Each runs some, and each is asked for some.
    let mut tasks = Vec::new();
    for n in 0..8 {
        let through = if n % 2 == 0 { &first } else { &second };
        let to = &first.url;
        tasks.push(through.send(to, "work", "until_cancelled", json!(n)).await);
    }
    for id in &tasks {
        first.started(id, 1).await;
    }
    let commands: Vec<_> = tasks.iter().map(|id| vec!["--cancel", id]).collect();
    for output in at_once(&first, &commands) {
        said(&output);
    }
    for id in &tasks {
        first.reaches(id, "cancelled").await;
        until("the handler sees it", async || first.has_stopped(id)).await;
    }
    leaves_nothing(&first).await;
}
