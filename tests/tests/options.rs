//! What a task can carry beside its input, and what its handler can say of it.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::harness::{Fake, Peer, eventually, message, text, until};

/// An order for a task of the peer's own.
fn own(peer: &Peer, queue: &str, data: &Value) -> Value {
    json!({"to": peer.url, "queue": queue, "action": "wait", "data": data})
}

on_each_store! {
    /// They are stored together, when the slot is free.
    async fn the_most_urgent_subtask_of_a_group_starts_first(store) {
        let a = Peer::start_with(&store, "a", &[("FRESTQ_QUEUES__NARROW__CONCURRENCY", "1")]).await;
        let narrow = |gate: &str, name: &str, priority: i64| {
            json!({"task": {
                "to": a.url, "queue": "narrow", "action": "wait", "priority": priority,
                "data": {"gate": gate, "name": name},
            }})
        };
        a.open("open");
        let first = a.plant(&narrow("open", "first", 0)).await;
        a.reaches(&first, "finished").await;
        let plan = [narrow("go", "low", 0), narrow("go", "lower", -1), narrow("go", "high", 5)];
        a.plant(&json!({"parallel": plan})).await;
        let running = eventually("one of them starts", async || {
            a.tasks_of("wait").into_iter().find(|task| task["status"] == "executing")
        })
        .await;
        assert_eq!(running["input_data"]["name"], "high");
    }

    async fn a_unique_key_gives_the_open_task_until_that_has_ended(store) {
        let mut a = Peer::start(&store, "a").await;
        let mut order = own(&a, "work", &json!({"gate": "go"}));
        order["unique"] = json!("nightly");
        let first = a.order(&order).await;
        assert_eq!(a.order(&order).await, first);
        // The key is kept on disk.
        a.kill();
        a.run().await;
        assert_eq!(a.order(&order).await, first);
        // Another key is another task.
        order["unique"] = json!("daily");
        assert_ne!(a.order(&order).await, first);
        a.open("go");
        a.output(&first).await;
        order["unique"] = json!("nightly");
        assert_ne!(a.order(&order).await, first);
    }

    async fn a_unique_key_holds_among_orders_at_the_same_moment(store) {
        let a = Peer::start(&store, "a").await;
        let mut order = own(&a, "work", &json!({"gate": "go"}));
        order["unique"] = json!("nightly");
        let orders = (0..20).map(|_| a.order(&order));
        let ids = futures_util::future::join_all(orders).await;
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        assert_eq!(a.tasks().len(), 1);
    }

    async fn of_tasks_that_wait_for_a_slot_the_one_of_the_highest_priority_goes_first(store) {
        let one = [("FRESTQ_QUEUES__NARROW__CONCURRENCY", "1")];
        let a = Peer::start_with(&store, "a", &one).await;
        let first = a.order(&own(&a, "narrow", &json!({"gate": "first"}))).await;
        a.started(&first, 1).await;
        let mut waiting = Vec::new();
        for (gate, priority) in [("low", -1), ("none", 0), ("high", 7), ("same", 7)] {
            let mut order = own(&a, "narrow", &json!({"gate": gate}));
            order["priority"] = json!(priority);
            waiting.push((gate, a.order(&order).await));
        }
        let mut running = "first";
        for next in ["high", "same", "none", "low"] {
            a.open(running);
            let started = waiting.iter().find(|(gate, _)| *gate == next);
            a.started(&started.unwrap().1, 1).await;
            let open = waiting.iter().filter(|(_, id)| a.runs(id) > 0).count();
            waiting.retain(|(gate, _)| *gate != next);
            assert_eq!(open, 1, "only {next} has started");
            running = next;
        }
        a.open(running);
    }

    async fn a_task_is_reported_on_at_its_pingback_date(store) {
        let (b, a) = (Peer::start(&store, "b").await, Fake::new().await);
        let mut task = message(&a.url, "wait", json!({"gate": "go"}));
        let at = Timestamp::now().as_millisecond() + 600;
        task["pingback_date"] = json!(Timestamp::from_millisecond(at).unwrap().to_string());
        let id = text(&task, "task_id").to_owned();
        assert_eq!(b.deliver("work", &task).await.status, 200);
        a.sees(1).await;
        assert!(Timestamp::now().as_millisecond() >= at);
        let report = a.seen()[0].json();
        assert_eq!((text(&report, "action"), text(&report, "task_id")), ("frestq.update_task", &*id));
        assert_eq!(report["data"], json!({"output_data": null, "status": "executing"}));
        b.open("go");
        a.sees(2).await;
        assert_eq!(a.seen()[1].json()["data"]["status"], "finished");
    }

    async fn what_a_handler_says_of_its_progress_is_shown(store) {
        let a = Peer::start(&store, "a").await;
        let mut order = own(&a, "work", &json!({"gate": "go"}));
        order["action"] = json!("report");
        let id = a.order(&order).await;
        until("it has said how far it is", async || !a.task(&id).await["progress"].is_null()).await;
        assert_eq!(a.task(&id).await["progress"], json!({"fraction": 0.4, "note": "mixing"}));
        let tree = a.cli(&["--tree", &id]).stdout;
        let tree = String::from_utf8(tree).unwrap();
        assert!(tree.contains("40 % mixing"), "{tree}");
        a.open("go");
        a.output(&id).await;
    }

    async fn a_task_is_sent_with_the_date_on_which_a_report_is_wanted(store) {
        let (a, fake) = (Peer::start(&store, "a").await, Fake::new().await);
        let (soon, late) = (3_600_000_i64, 3_660_000);
        let before = Timestamp::now().as_millisecond();
        let id = a
            .plant(&json!({"task": {
                "to": fake.url, "queue": "q", "action": "act", "pingback_in_ms": soon,
            }}))
            .await;
        let sent = fake.sees_task(&id).await.json();
        // As the original writes it: in UTC, and without saying so.
        let date = format!("{}Z", text(&sent, "pingback_date"));
        let date: Timestamp = date.parse().unwrap();
        let date = date.as_millisecond();
        assert!((before + soon..before + late).contains(&date), "{sent}");
        // Nobody else asked for one.
        let id = a.send(&fake.url, "q", "act", json!(1)).await;
        assert_eq!(fake.sees_task(&id).await.json()["pingback_date"], Value::Null);
    }

    async fn a_local_task_is_listed_among_the_messages_as_one_to_oneself(store) {
        let a = Peer::start(&store, "a").await;
        let id = a.send(&a.url, "work", "echo", json!({"votes": 3})).await;
        a.output(&id).await;
        let listed = a.cli(&["--messages", "--json"]).stdout;
        let listed: Vec<Value> = serde_json::from_slice(&listed).unwrap();
        assert_eq!(listed.len(), 1, "{listed:?}");
        let message = &listed[0];
        assert_eq!((&message["task_id"], &message["action"]), (&json!(id), &json!("echo")));
        assert_eq!(message["sender_url"], message["receiver_url"]);
        assert_eq!(message["input_data"], json!({"votes": 3}));
        assert!(a.cli(&["--show-message", &id]).status.success());
    }

    async fn a_local_task_whose_turn_never_came_is_no_message(store) {
        let a = Peer::start(&store, "a").await;
        let task = |action: &str| {
            json!({"task": {"to": a.url, "queue": "work", "action": action, "data": "no"}})
        };
        let id = a.plant(&json!({"sequential": [task("fail"), task("echo")]})).await;
        a.error(&id).await;
        assert_eq!(a.task_of("echo")["status"], "cancelled");
        let listed = a.cli(&["--messages", "--json"]).stdout;
        let listed: Vec<Value> = serde_json::from_slice(&listed).unwrap();
        let actions: Vec<_> = listed.iter().map(|message| &message["action"]).collect();
        assert_eq!(actions, ["fail"]);
    }
}
