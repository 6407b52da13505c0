//! Trees over several peers: how they end, and what reaches the handlers that run.

use serde_json::{Value, json};

use crate::harness::{Peer, eventually, text, until, url_of};

/// A task of a plan.
fn task(peer: &Peer, action: &str, data: Value) -> Value {
    json!({"task": {"to": peer.url, "queue": "work", "action": action, "data": data}})
}

on_each_store! {
    async fn a_failing_task_calls_off_what_runs_on_another_peer(store) {
        let (a, b) = (Peer::start(&store, "a").await, Peer::start(&store, "b").await);
        let group = a
            .plant(&json!({"parallel": [
                task(&a, "fail_at", json!({"gate": "fail"})),
                task(&b, "until_cancelled", json!(null)),
            ]}))
            .await;
        let running = eventually("B runs it", async || b.tasks_of("until_cancelled").pop()).await;
        let id = text(&running, "id");
        b.started(id, 1).await;
        assert!(!b.has_stopped(id));

        a.open("fail");
        let error = a.error(&group).await;
        assert_eq!((&error["error"], &error["message"]), (&json!("told"), &json!("failed as told")));
        a.reaches(id, "cancelled").await;
        b.reaches(id, "cancelled").await;
        until("B's handler sees it", async || b.has_stopped(id)).await;
        assert_eq!(b.runs(id), 1);
    }

    /// Also if its peer was tried before its tree ended.
    async fn a_task_that_was_called_off_while_its_peer_was_away_never_gets_there(store) {
        let a = Peer::start(&store, "a").await;
        let mut b = Peer::new(&store, "b").await;
        b.createdb();
        let group = a
            .plant(&json!({"parallel": [
                task(&a, "fail_at", json!({"gate": "fail"})),
                task(&b, "until_cancelled", json!(null)),
            ]}))
            .await;
        let vain = text(&a.task_of("until_cancelled"), "id").to_owned();
        until("B was tried", async || {
            a.database.number("SELECT coalesce(max(attempts), 0) FROM outbox").await >= 1
        })
        .await;
        a.open("fail");
        a.error(&group).await;
        a.reaches(&vain, "cancelled").await;
        b.run().await;
        let said = a.call(&b.url, "work", "echo", json!("after it")).await;
        assert_eq!(said["output"], "after it");
        until("its message is settled", async || {
            a.database.number("SELECT count(*) FROM outbox WHERE state = 0").await == 0
        })
        .await;
        assert!(b.find_task(&vain).await.is_none());
    }

    async fn calling_off_goes_down_through_a_tree_on_another_peer(store) {
        let (a, b) = (Peer::start(&store, "a").await, Peer::start(&store, "b").await);
        let group = a
            .plant(&json!({"parallel": [
                task(&a, "fail_at", json!({"gate": "fail"})),
                task(&b, "grow", json!([
                    {"parallel": [task(&a, "until_cancelled", json!(1))]},
                    task(&b, "echo", json!(2)),
                ])),
            ]}))
            .await;
        let running = eventually("A runs it for B", async || {
            a.tasks_of("until_cancelled").pop()
        })
        .await;
        let id = text(&running, "id");
        a.started(id, 1).await;
        a.open("fail");
        a.error(&group).await;
        a.reaches(id, "cancelled").await;
        until("the handler sees it", async || a.has_stopped(id)).await;
        let tree = b.tasks();
        assert_eq!(tree.len(), 4, "{tree:?}");
        assert!(tree.iter().all(|task| task["status"] == "cancelled"), "{tree:?}");
        assert_eq!(b.task_of("echo")["attempt"], 0);
    }

    async fn a_group_that_waits_for_all_ends_with_its_last_task(store) {
        let (a, b) = (Peer::start(&store, "a").await, Peer::start(&store, "b").await);
        let group = a
            .plant(&json!({"all": [
                task(&a, "fail", json!("no")),
                task(&b, "wait", json!({"gate": "go"})),
                task(&a, "echo", json!(3)),
            ]}))
            .await;
        let waiting = eventually("B runs it", async || b.tasks_of("wait").pop()).await;
        let id = text(&waiting, "id");
        b.started(id, 1).await;
        until("the others end", async || {
            a.task_of("fail")["status"] == "error" && a.task_of("echo")["status"] == "finished"
        })
        .await;
        assert_eq!(a.task(&group).await["status"], "executing");
        b.open("go");
        let error = a.error(&group).await;
        assert_eq!(error["error"], "children failed");
        let failed = a.task_of("fail");
        let failure = json!({
            "id": failed["id"], "queue": "work", "action": "fail", "error": failed["output_data"],
        });
        assert_eq!(error["data"], json!([failure]));
        assert_eq!(a.task(id).await["status"], "finished");
    }

    async fn a_handler_that_recovers_goes_on_after_an_error_from_another_peer(store) {
        let (a, b) = (Peer::start(&store, "a").await, Peer::start(&store, "b").await);
        let children = json!([
            task(&b, "coded", json!(null)),
            task(&a, "echo", json!("next")),
            task(&b, "coded", json!(null)),
            task(&b, "echo", json!("last")),
        ]);
        let outcome = a.call(&a.url, "work", "forgive", children).await;
        assert_eq!(outcome, json!({"output": ["the ballot box is empty"]}));
        let parent = a.task_of("forgive");
        assert_eq!(a.runs(text(&parent, "id")), 2, "asked once about each error");
        let ends: Vec<_> = a.tasks_of("echo").iter().map(|task| task["status"].clone()).collect();
        assert_eq!(ends, ["finished", "finished"]);
    }

    /// Killed while a subtask runs on another peer, whose error is only known to the next process.
    async fn a_handler_recovers_from_what_failed_while_its_peer_was_dead(store) {
        let mut a = Peer::start(&store, "a").await;
        let b = Peer::start(&store, "b").await;
        let id = a
            .send(&a.url, "work", "forgive", json!([
                task(&b, "fail_at", json!({"gate": "fail"})),
                task(&b, "echo", json!("next")),
            ]))
            .await;
        eventually("B runs it", async || b.tasks_of("fail_at").pop()).await;
        a.kill();
        b.open("fail");
        let failed = b.task_of("fail_at");
        b.reaches(text(&failed, "id"), "error").await;
        a.run().await;
        assert_eq!(a.output(&id).await, json!(["failed as told"]));
        assert_eq!((a.runs(&id), b.task_of("echo")["status"].clone()), (1, json!("finished")));
    }

    async fn an_error_that_its_handler_does_not_forgive_ends_the_task(store) {
        let a = Peer::start(&store, "a").await;
        let id = a
            .send(&a.url, "work", "forgive", json!([
                {"parallel": [task(&a, "refuse", json!("unforgivable"))]},
                task(&a, "echo", json!("never")),
            ]))
            .await;
        let error = a.error(&id).await;
        assert_eq!((&error["error"], &error["message"]), (&json!("told"), &json!("unforgivable")));
        assert_eq!(a.task_of("echo")["status"], "cancelled");
    }

    /// Neither what a failing `handle_error` says nor what it adds replaces what it was asked about.
    async fn an_error_stands_if_it_can_not_be_handled(store) {
        let a = Peer::start(&store, "a").await;
        for (message, then) in [("confusing", "and now?"), ("inspiring", "only execute may add")] {
            let children = json!([task(&a, "refuse", json!(message))]);
            let outcome = a.call(&a.url, "work", "forgive", children).await;
            let error = &outcome["failed"];
            assert_eq!(error["error"], "told", "{outcome}");
            let words = text(error, "message");
            assert!(words.starts_with(message) && words.contains(then), "{words}");
        }
    }

    async fn a_task_sees_its_parent_and_its_siblings(store) {
        let a = Peer::start(&store, "a").await;
        let outcome = a
            .call(&a.url, "work", "grow", json!([
                task(&a, "echo", json!("first")),
                task(&a, "look_around", json!(null)),
                task(&a, "echo", json!("last")),
            ]))
            .await;
        assert_eq!(outcome, json!({"output": "grown"}));
        let (parent, looked) = (a.task_of("grow"), a.task_of("look_around"));
        let mut echoes = a.tasks_of("echo");
        echoes.sort_by_key(|task| task["order"].as_i64());
        let siblings: Vec<_> = echoes.iter().map(|task| task["id"].clone()).collect();
        let seen = &looked["output_data"];
        assert_eq!(seen["siblings"], json!(siblings));
        assert_eq!(seen["parent"], parent["id"]);
        assert_eq!((&seen["previous"], &seen["next"]), (&json!("first"), &json!("last")));
        assert_eq!(seen["effect_key"], json!(format!("{} {}", a.url, text(&looked, "id"))));
    }

    async fn a_handler_finds_the_subtask_of_a_label_when_it_is_asked_about_an_error(store) {
        let a = Peer::start(&store, "a").await;
        let mut guilty = task(&a, "refuse", json!("whose?"));
        guilty["task"]["label"] = json!("guilty");
        let outcome = a.call(&a.url, "work", "forgive", json!([task(&a, "echo", json!(1)), guilty])).await;
        assert_eq!(outcome, json!({"output": [a.task_of("refuse")["id"]]}));
    }

    async fn a_task_may_set_the_output_of_its_parent(store) {
        let (a, b) = (Peer::start(&store, "a").await, Peer::start(&store, "b").await);
        let told = json!({"all": ["is", "well"]});
        let children = json!([task(&b, "tell_parent", told.clone())]);
        let outcome = a.call(&b.url, "work", "grow", children).await;
        assert_eq!(outcome, json!({"output": told}));
        let children = json!([task(&b, "echo", told)]);
        let outcome = a.call(&b.url, "work", "grow", children).await;
        assert_eq!(outcome, json!({"output": "grown"}));
    }

    async fn ten_thousand_tasks_of_one_group_fail_and_the_group_says_so(store) {
        const MANY: usize = 10_000;
        let peer = Peer::start(&store, "a").await;
        // Its input lacks the name.
        let hello = json!({"task": {"to": peer.url, "queue": "say_queue", "action": "hello_world", "data": {}}});
        let group = peer.plant(&json!({"all": vec![hello; MANY]})).await;
        let error = peer.error(&group).await;
        assert!(text(&error, "message").starts_with("10000 of its tasks failed"), "{error}");
        let told = error["data"].as_array().unwrap();
        assert!(told.iter().all(|failure| failure["error"]["error"] == "invalid input"));
        assert_eq!(told.len(), 100);
    }

    /// The one whose turn has come is on its way to a peer that is not there.
    async fn ten_thousand_tasks_for_another_peer_are_called_off_without_a_message(store) {
        const MANY: usize = 10_000;
        let peer = Peer::start(&store, "a").await;
        let vain = json!({"task": {"to": url_of(9), "queue": "q", "action": "act"}});
        let group = peer.plant(&json!({"sequential": vec![vain; MANY]})).await;
        let said = peer.cli(&["--cancel", &group]);
        assert!(said.status.success(), "{said:?}");
        peer.reaches(&group, "cancelled").await;
        let cancelled = "SELECT count(*) FROM tasks WHERE status = 13";
        assert_eq!(peer.database.number(cancelled).await, 10_001);
        assert_eq!(peer.database.count("outbox").await, 1);
    }

    async fn ten_thousand_tasks_of_one_group_end(store) {
        const MANY: i64 = 10_000;
        let peer = Peer::start(&store, "a").await;
        let hello = json!({"task": {
            "to": peer.url, "queue": "say_queue", "action": "hello_world", "data": {"username": "ada"},
        }});
        let many = vec![hello; usize::try_from(MANY).unwrap()];
        let group = peer.plant(&json!({"parallel": many})).await;
        assert_eq!(peer.output(&group).await, Value::Null);
        let finished = "SELECT count(*) FROM tasks WHERE status = 10";
        assert_eq!(peer.database.number(finished).await, MANY + 1);
    }
}
