//! Delivery is at least once, its effect is exactly once.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::harness::{Fake, Peer, id, message, text, until, update, url_of};

/// A message that hands over many.
fn batch(sender: &str, entries: &[(&str, &Value)]) -> Value {
    let entries: Vec<_> = entries
        .iter()
        .map(|(queue, message)| json!({"queue": queue, "message": message}))
        .collect();
    let mut batch = message(sender, "frestq.batch", json!(entries));
    batch.as_object_mut().unwrap().remove("task_id");
    batch
}

/// The statuses of a batch's answers, which must be those of these messages, in order.
#[track_caller]
fn statuses(answer: &crate::harness::Answer, messages: &[&Value]) -> Vec<u64> {
    assert_eq!(answer.status, 200, "{}", answer.body);
    let answers = answer.json();
    let answers = answers.as_array().unwrap();
    assert_eq!(answers.len(), messages.len());
    for (answer, message) in answers.iter().zip(messages) {
        assert_eq!(answer["message_id"], message["message_id"]);
        assert_eq!(
            answer["status"] == 200,
            answer.get("message").is_none(),
            "{answer}"
        );
    }
    answers
        .iter()
        .map(|answer| answer["status"].as_u64().unwrap())
        .collect()
}

on_each_store! {
    async fn a_repeated_message_gets_the_same_answer_and_runs_once(store) {
        let mut peer = Peer::start(&store, "b").await;
        let task = message(&url_of(9), "echo", json!("once"));
        let id = text(&task, "task_id");
        for _ in 0..3 {
            let answer = peer.deliver("work", &task).await;
            assert_eq!((answer.status, answer.body.as_str()), (200, ""));
        }
        assert_eq!(peer.output(id).await, "once");
        peer.stop().await;
        peer.run().await;
        assert_eq!(peer.deliver("work", &task).await.status, 200);
        // Another one, to be sure that whatever the repetition caused is over.
        let other = message(&url_of(9), "echo", json!("other"));
        peer.deliver("work", &other).await;
        peer.output(text(&other, "task_id")).await;
        assert_eq!(peer.runs(id), 1);
        let counts = peer.database.counts().await;
        assert_eq!((counts["tasks"], counts["inbox"]), (2, 2));
    }

    async fn a_message_id_is_not_reused_for_another_message(store) {
        let peer = Peer::start(&store, "b").await;
        let task = message(&url_of(9), "echo", json!(1));
        assert_eq!(peer.deliver("work", &task).await.status, 200);
        peer.output(text(&task, "task_id")).await;
        let before = peer.database.counts().await;

        let mut other = task.clone();
        other["data"] = json!(2);
        let answer = peer.deliver("work", &other).await;
        assert_eq!(answer.status, 409);
        assert!(answer.refusal().contains(text(&task, "message_id")));
        other["task_id"] = json!(id());
        assert_eq!(peer.deliver("work", &other).await.status, 409);
        // The same text in another queue is another message.
        let mut moved = task.clone();
        moved["action"] = json!("hello_world");
        assert_eq!(peer.deliver("say_queue", &moved).await.status, 409);
        assert_eq!(peer.database.counts().await, before);
        assert_eq!(peer.runs(text(&task, "task_id")), 1);
    }

    /// Ids are their sender's own affair.
    /// Also where the other message, by itself, would change nothing.
    async fn an_id_is_used_up_whatever_comes_under_it_next(store) {
        let (peer, fake) = (Peer::start(&store, "a").await, Fake::new().await);
        let task = peer.send(&fake.url, "work", "echo", json!(1)).await;
        fake.sees_task(&task).await;
        let finished = update(&fake.url, &task, "finished", json!("first"));
        assert_eq!(peer.deliver("internal.frestq", &finished).await.status, 200);
        assert_eq!(peer.output(&task).await, "first");
        let used = &finished["message_id"];
        for (status, output) in [("finished", "second"), ("executing", "first")] {
            let mut other = update(&fake.url, &task, status, json!(output));
            other["message_id"] = used.clone();
            assert_eq!(peer.deliver("internal.frestq", &other).await.status, 409);
        }
        let mut cancel = message(&fake.url, "frestq.cancel_task", json!({}));
        (cancel["message_id"], cancel["task_id"]) = (used.clone(), json!(id()));
        assert_eq!(peer.deliver("internal.frestq", &cancel).await.status, 409);
        // One at a time, in a batch, and with what is new around it.
        let fresh = message(&fake.url, "echo", json!("new"));
        let mut again = fresh.clone();
        again["data"] = json!("other");
        let all = [("work", &fresh), ("internal.frestq", &cancel), ("work", &again), ("internal.frestq", &finished)];
        let answer = peer.deliver("internal.frestq", &batch(&fake.url, &all)).await;
        let messages: Vec<_> = all.iter().map(|(_, message)| *message).collect();
        assert_eq!(statuses(&answer, &messages), [200, 409, 409, 200]);
        assert_eq!(peer.output(text(&fresh, "task_id")).await, "new");
    }

    async fn two_senders_may_choose_the_same_message_id(store) {
        let peer = Peer::start(&store, "b").await;
        let task = message(&url_of(9), "echo", json!(1));
        let mut theirs = message(&url_of(10), "echo", json!(2));
        theirs["message_id"] = task["message_id"].clone();
        for task in [task, theirs] {
            assert_eq!(peer.deliver("work", &task).await.status, 200);
            assert_eq!(peer.output(text(&task, "task_id")).await, task["data"]);
        }
    }

    async fn a_task_does_not_run_again_under_a_new_message_id(store) {
        let peer = Peer::start(&store, "b").await;
        let task = message(&url_of(9), "echo", json!(1));
        let task_id = text(&task, "task_id");
        assert_eq!(peer.deliver("work", &task).await.status, 200);
        let done = peer.reaches(task_id, "finished").await;
        let before = peer.database.counts().await;
        for sender in [url_of(9), url_of(10)] {
            let mut again = task.clone();
            again["message_id"] = json!(id());
            again["sender_url"] = json!(sender);
            let answer = peer.deliver("work", &again).await;
            assert_eq!(answer.status, 409);
            assert!(answer.refusal().contains(task_id));
        }
        let after = peer.database.counts().await;
        assert_eq!(
            (after["tasks"], after["inbox"]),
            (before["tasks"], before["inbox"])
        );
        assert_eq!((peer.runs(task_id), peer.task(task_id).await), (1, done));
    }

    async fn a_message_that_comes_fifty_times_at_once_runs_once(store) {
        let peer = Peer::start(&store, "b").await;
        let task = message(&url_of(9), "count", json!({"n": 1}));
        let answers = join_all((0..50).map(|_| peer.deliver("work", &task))).await;
        assert!(answers.iter().all(|answer| answer.status == 200));
        assert_eq!(peer.output(text(&task, "task_id")).await, 2);
        let counts = peer.database.counts().await;
        assert_eq!(
            (counts["tasks"], counts["inbox"], counts["counted"]),
            (1, 1, 1)
        );
    }

    /// The same task under fifty message ids: one is taken, and which one is no matter.
    async fn a_task_that_comes_under_fifty_ids_at_once_runs_once(store) {
        let peer = Peer::start(&store, "b").await;
        let task = message(&url_of(9), "count", json!({"n": 1}));
        let answers = join_all((0..50).map(async |_| {
            let mut task = task.clone();
            task["message_id"] = json!(id());
            peer.deliver("work", &task).await.status
        }))
        .await;
        assert_eq!(answers.iter().filter(|status| **status == 200).count(), 1);
        assert_eq!(answers.iter().filter(|status| **status == 409).count(), 49);
        assert_eq!(peer.output(text(&task, "task_id")).await, 2);
        let counts = peer.database.counts().await;
        assert_eq!(
            (counts["tasks"], counts["inbox"], counts["counted"]),
            (1, 1, 1)
        );
    }

    async fn a_raw_message_is_handled_once_and_answered_with_no_update(store) {
        let (peer, a) = (Peer::start(&store, "b").await, Fake::new().await);
        let mut note = message(&a.url, "note", json!({"b": 1, "a": [2.50]}));
        note.as_object_mut().unwrap().remove("task_id");
        for _ in 0..2 {
            assert_eq!(peer.deliver("work", &note).await.status, 200);
        }
        let noted = eventually_noted(&peer).await;
        assert_eq!(noted, [(note["data"].to_string(), 1)]);
        // Its sender hears of the task that comes after it, and of nothing else.
        let task = message(&a.url, "echo", json!(1));
        peer.deliver("work", &task).await;
        a.sees_task(text(&task, "task_id")).await;
        assert_eq!(a.seen().len(), 1);
    }

    async fn each_message_of_a_batch_is_answered_on_its_own(store) {
        let (peer, a) = (Peer::start(&store, "b").await, Fake::new().await);
        let known = message(&a.url, "echo", json!("known"));
        assert_eq!(peer.deliver("work", &known).await.status, 200);
        a.sees_task(text(&known, "task_id")).await;

        let good = message(&a.url, "count", json!({"n": 21}));
        let mut reused = message(&a.url, "echo", json!(1));
        reused["message_id"] = known["message_id"].clone();
        let mut same_task = message(&a.url, "echo", json!(1));
        same_task["task_id"] = good["task_id"].clone();
        let unknown = message(&a.url, "nonsense", json!(1));
        let stranger = message(&url_of(10), "echo", json!(1));
        let mut bad = message(&a.url, "echo", json!(1));
        bad["task_id"] = json!(7);
        let nested = batch(&a.url, &[("work", &good)]);
        let lost = update(&a.url, &id(), "finished", json!(1));
        let entries = [
            ("work", &good),
            ("work", &known),
            ("work", &reused),
            ("work", &same_task),
            ("work", &unknown),
            ("work", &stranger),
            ("work", &good),
            ("internal.frestq", &nested),
            ("internal.frestq", &lost),
            ("work", &bad),
        ];
        let before = peer.database.counts().await;
        let answer = peer
            .deliver("internal.frestq", &batch(&a.url, &entries))
            .await;
        let messages = entries.map(|(_, message)| message);
        assert_eq!(
            statuses(&answer, &messages),
            [200, 200, 409, 409, 404, 403, 200, 404, 404, 400]
        );
        assert_eq!(peer.output(text(&good, "task_id")).await, 42);
        a.sees_task(text(&good, "task_id")).await;
        // Of all that only the good one was stored: its task, its message, its update.
        let after = peer.database.counts().await;
        for (table, more) in [("tasks", 1), ("inbox", 1), ("outbox", 1), ("peers", 0)] {
            assert_eq!(after[table], before[table] + more, "{table}");
        }
        // The same batch again, as after a lost answer.
        let answer = peer
            .deliver("internal.frestq", &batch(&a.url, &entries))
            .await;
        assert_eq!(
            statuses(&answer, &messages),
            [200, 200, 409, 409, 404, 403, 200, 404, 404, 400]
        );
        assert_eq!(peer.database.counts().await, after);
    }

    async fn a_batch_that_is_none_is_refused_as_a_whole(store) {
        let peer = Peer::start(&store, "b").await;
        let before = peer.database.counts().await;
        for data in [
            json!({}),
            json!("x"),
            json!(null),
            json!([1]),
            json!([{"queue": "work"}]),
        ] {
            let mut batch = batch(&url_of(9), &[]);
            batch["data"] = data;
            let answer = peer.deliver("internal.frestq", &batch).await;
            assert_eq!(answer.status, 400);
            assert!(answer.refusal().contains("`data`"));
        }
        let task = message(&url_of(9), "echo", json!(1));
        let many = batch(&url_of(9), &vec![("work", &task); 1001]);
        assert_eq!(peer.deliver("internal.frestq", &many).await.status, 413);
        assert_eq!(peer.database.counts().await, before);
        let empty = peer
            .deliver("internal.frestq", &batch(&url_of(9), &[]))
            .await;
        assert_eq!((empty.status, empty.json()), (200, json!([])));
    }
}

/// The notes, once there is one.
async fn eventually_noted(peer: &Peer) -> Vec<(String, i64)> {
    until("the note is taken", async || {
        peer.database.count("noted").await > 0
    })
    .await;
    let counted = "SELECT text, count(*) FROM noted GROUP BY text";
    peer.database.pairs(counted).await
}
