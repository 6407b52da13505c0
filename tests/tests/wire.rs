//! The recorded exchange between two original peers: ours stands on either side of it.

use serde_json::{Value, json};

use crate::harness::{Fake, Peer, Reply, id, message, text, until, update, url_of};

/// The three messages of the recording: the task, and the update that came twice.
fn recorded() -> [Value; 3] {
    let lines = include_str!("../wire/helloworld.jsonl").lines();
    let exchanges = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
    let messages: Vec<_> = exchanges
        .filter(|exchange| exchange["path"].as_str().unwrap().starts_with("/api/"))
        .map(|exchange| exchange["request"].clone())
        .collect();
    messages.try_into().unwrap()
}

/// The members' names.
fn members(message: &Value) -> Vec<&str> {
    let mut names: Vec<_> = message
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    names.sort_unstable();
    names
}

on_each_store! {
    /// An original A asks; only the addresses are ours.
    async fn an_original_sender_gets_what_an_original_receiver_answers(store) {
        let (b, a) = (Peer::start(&store, "b").await, Fake::new().await);
        let [mut task, mut expected, _] = recorded();
        task["sender_url"] = json!(a.url);
        let request = b
            .http
            .post(format!("{}/say_queue/", b.url))
            .header("User-Agent", "python-requests/2.31.0")
            .header("Accept-Encoding", "gzip, deflate")
            .header("Accept", "*/*")
            .body(task.to_string());
        let answer = b.ask(request).await.unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (200, ""));

        let seen = a.sees(1).await;
        assert_eq!(seen[0].path(), "/api/queues/internal.frestq/");
        let mut update = seen[0].json();
        assert_ne!(update["message_id"], task["message_id"]);
        // Compared as they are, so that nothing is there beside what an original sends: no `ext`.
        expected["message_id"] = update["message_id"].take();
        update["message_id"] = expected["message_id"].clone();
        expected["sender_url"] = json!(b.url);
        assert_eq!(update, expected);
    }

    /// An original B answers twice, and speaks once more after that.
    async fn an_original_receiver_may_finish_twice_and_execute_afterwards(store) {
        let (a, b) = (Peer::start(&store, "a").await, Fake::new().await);
        let [recorded, finished, _] = recorded();
        let task = a
            .send(
                &b.url,
                "say_queue",
                "hello_world",
                json!({"username": "ada"}),
            )
            .await;
        let seen = b.sees(1).await;
        assert_eq!(seen[0].path(), "/api/queues/say_queue/");
        let sent = seen[0].json();
        assert_eq!(members(&sent), members(&recorded));
        for member in ["action", "data"] {
            assert_eq!(sent[member], recorded[member]);
        }
        assert_eq!(
            (text(&sent, "task_id"), text(&sent, "sender_url")),
            (&*task, &*a.url)
        );

        let update = |output: &Value, status: &str| update(&b.url, &task, status, output.clone());
        let output = &finished["data"]["output_data"];
        for _ in 0..2 {
            let answer = a
                .deliver("internal.frestq", &update(output, "finished"))
                .await;
            assert_eq!((answer.status, answer.body.as_str()), (200, ""));
        }
        let done = a.reaches(&task, "finished").await;
        assert_eq!(done["output_data"], "hello ada!");
        for (output, status) in [
            ("late", "executing"),
            ("again", "finished"),
            ("no", "error"),
        ] {
            let answer = a
                .deliver("internal.frestq", &update(&json!(output), status))
                .await;
            assert_eq!(answer.status, 200, "{status}");
        }
        assert_eq!(a.task(&task).await, done);
    }

    /// The result may come before the acknowledgement of what asked for it.
    async fn an_update_may_overtake_the_acknowledgement(store) {
        let a = Peer::start_with(&store, "a", &[("FRESTQ_DELIVERY__TIMEOUT", "500ms")]).await;
        let b = Fake::first([Reply::Hangs]).await;
        let task = a.send(&b.url, "say_queue", "hello_world", json!({})).await;
        b.sees(1).await;
        let answer = a
            .deliver(
                "internal.frestq",
                &update(&b.url, &task, "finished", json!(1)),
            )
            .await;
        assert_eq!(answer.status, 200);
        assert_eq!(a.output(&task).await, 1);
        // What nobody has acknowledged is not sent again, since there is nothing left to do.
        until("its message is settled", async || {
            a.database.number("SELECT count(*) FROM outbox WHERE state <> 0").await == 1
        })
        .await;
        assert_eq!((b.seen().len(), a.output(&task).await), (1, json!(1)));
    }

    async fn a_stranger_learns_nothing_about_a_task(store) {
        let (a, b) = (Peer::start(&store, "a").await, Fake::new().await);
        let stranger = Fake::new().await;
        let task = a.send(&b.url, "say_queue", "hello_world", json!({})).await;
        b.sees(1).await;
        let before = a.reaches(&task, "sent").await;
        let theirs = update(&stranger.url, &task, "finished", json!("x"));
        let theirs = a.deliver("internal.frestq", &theirs).await;
        let nobodys = update(&b.url, &id(), "finished", json!("x"));
        let nobodys = a.deliver("internal.frestq", &nobodys).await;
        assert_eq!((theirs.status, nobodys.status), (404, 404));
        assert_eq!(theirs.body, nobodys.body);
        assert_eq!(a.task(&task).await, before);
    }

    /// What a request showed is forgotten when the next one does not.
    async fn only_a_peer_that_shows_extensions_is_spoken_to_with_them(store) {
        let (b, a) = (Peer::start(&store, "b").await, Fake::new().await);
        let deliver = async |header: Option<&str>, action: &str, data: Value| {
            let task = message(&a.url, action, data);
            let mut request = b
                .http
                .post(format!("{}/work/", b.url))
                .body(task.to_string());
            if let Some(header) = header {
                request = request.header("RESTQP-Extensions", header);
            }
            let answer = b.ask(request).await.unwrap();
            assert_eq!(answer.status, 200);
            assert!(answer.headers.contains_key("RESTQP-Extensions"));
            text(&task, "task_id").to_owned()
        };
        for (header, shown) in [
            (None, false),
            (Some("batch, ext"), true),
            (Some("tea"), false),
            (Some("Ext,Batch"), true),
        ] {
            // Nothing is sent to A for it, so that only its requests tell what it reads.
            deliver(Some("batch, ext"), "wait", json!({"gate": "never"})).await;
            let task = deliver(header, "echo", json!("ada")).await;
            let update = a.sees_task(&task).await.json();
            assert_eq!(update.get("ext").is_some(), shown, "{header:?}: {update}");
        }
    }

    async fn an_older_update_that_comes_later_changes_nothing(store) {
        let (a, b) = (Peer::start(&store, "a").await, Fake::new().await);
        let task = a.send(&b.url, "work", "echo", json!(1)).await;
        b.sees(1).await;
        for (rev, output, kept) in [
            (2, "two", "two"),
            (1, "one", "two"),
            (2, "two again", "two"),
            (3, "three", "three"),
        ] {
            let mut update = update(&b.url, &task, "executing", json!(output));
            update["ext"] = json!({"rev": rev});
            assert_eq!(a.deliver("internal.frestq", &update).await.status, 200);
            assert_eq!(a.task(&task).await["output_data"], kept);
        }
    }

    async fn only_the_receiver_of_a_task_may_report_on_it(store) {
        let (b, a) = (Peer::start(&store, "b").await, Fake::new().await);
        let task = message(&a.url, "wait", json!({"gate": "go"}));
        let id = text(&task, "task_id");
        assert_eq!(b.deliver("work", &task).await.status, 200);
        b.started(id, 1).await;
        // Its sender is not the one to say how far it is.
        let theirs = update(&a.url, id, "finished", json!("done, believe me"));
        assert_eq!(b.deliver("internal.frestq", &theirs).await.status, 404);
        b.open("go");
        assert_eq!(b.output(id).await, 1);
    }

    async fn a_message_meant_for_another_peer_is_refused(store) {
        let b = Peer::start(&store, "b").await;
        let mut task = message(&url_of(9), "echo", json!(1));
        let before = b.database.counts().await;
        task["ext"] = json!({"destination": url_of(10)});
        let answer = b.deliver("work", &task).await;
        assert_eq!(answer.status, 403);
        assert!(answer.refusal().contains(&url_of(10)));
        assert_eq!(b.database.counts().await, before);
        task["ext"] = json!({"destination": format!("{}/", b.url)});
        assert_eq!(b.deliver("work", &task).await.status, 200);
    }
}
