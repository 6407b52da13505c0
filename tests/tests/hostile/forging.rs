//! Messages that say what is not so.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Siege, is_refused};
use crate::harness::{
    id, message,
    raw::{answer, head, showing},
    secure::{client, hello, post},
    text, update,
};

/// What somebody may try on a task that is none of his.
fn about(sender: &str, task: &str) -> Vec<Value> {
    let perform = json!({"queue_name": "work", "action": "wait", "input_data": {"gate": "x"}});
    let reservation = json!({"reservation_data": 1, "reservation_expiration_seconds": 60});
    let mut messages = vec![
        update(sender, task, "finished", json!("forged")),
        update(sender, task, "error", json!("forged")),
        update(sender, task, "executing", json!("forged")),
    ];
    for (action, data) in [
        ("frestq.confirm_task_reservation", reservation),
        ("frestq.refuse_reservation", json!(null)),
        ("frestq.execute_synchronized", perform),
        ("frestq.cancel_task", json!(null)),
        ("frestq.cancel_reservation", json!(null)),
        ("frestq.finish_external_task", json!("forged")),
    ] {
        let mut message = message(sender, action, data);
        message["task_id"] = json!(task);
        messages.push(message);
    }
    messages
}

on_each_store! {
    async fn nobody_reports_on_or_decides_about_anothers_task(store) {
        let siege = Siege::new(&store).await;
        let (a, b) = (&siege.a, &siege.b);
        let received = a.send(&b.url, "work", "wait", json!({"gate": "go"})).await;
        let sent = b.send(&a.url, "work", "wait", json!({"gate": "go"})).await;
        b.started(&received, 1).await;
        b.reaches(&sent, "sent").await;
        let external = b.plant(&json!("external")).await;
        let before = siege.rows().await;
        let tasks = [&received, &sent, &external];
        let mut rows = Vec::new();
        for task in tasks {
            rows.push(b.task(task).await);
        }
        for task in tasks {
            // Under its own name, under the owner's, and under B's.
            for (sender, status) in [(&siege.c_url, 404), (&a.url, 403), (&b.url, 403)] {
                for forged in about(sender, task) {
                    let answer = siege.post("internal.frestq", &forged).await;
                    assert_eq!(answer.status, status, "{forged}: {}", answer.body);
                }
            }
        }
        for (task, row) in tasks.into_iter().zip(&rows) {
            assert_eq!(b.task(task).await, *row);
        }
        siege.is_over(&before).await;
        // The same does take effect if it comes from whoever it is for.
        let own = client(a, "a");
        let report = &about(&a.url, &sent)[0];
        assert_eq!(post(b, &own, "internal.frestq", report).await.status, 200);
        assert_eq!(b.output(&sent).await, "forged");
        let mut cancel = message(&a.url, "frestq.cancel_task", json!(null));
        cancel["task_id"] = json!(received);
        assert_eq!(post(b, &own, "internal.frestq", &cancel).await.status, 200);
        b.reaches(&received, "cancelled").await;
    }

    async fn a_finished_task_is_not_run_again_under_another_message_id(store) {
        let siege = Siege::new(&store).await;
        let (a, b) = (&siege.a, &siege.b);
        let own = client(a, "a");
        let task = message(&a.url, "echo", json!("once"));
        let id_of_task = text(&task, "task_id").to_owned();
        assert_eq!(post(b, &own, "work", &task).await.status, 200);
        assert_eq!(b.output(&id_of_task).await, "once");
        let before = siege.rows().await;
        let again = |sender: &str| {
            let mut again = task.clone();
            again["message_id"] = json!(id());
            again["sender_url"] = json!(sender);
            again["data"] = json!("twice");
            again
        };
        // By its sender, as another action, by somebody else, or in a synchronized group.
        assert_eq!(post(b, &own, "work", &again(&a.url)).await.status, 409);
        let mut other = again(&a.url);
        other["action"] = json!("until_cancelled");
        assert_eq!(post(b, &own, "work", &other).await.status, 409);
        assert_eq!(siege.post("work", &again(&siege.c_url)).await.status, 409);
        let mut reserve = again(&a.url);
        reserve["action"] = json!("frestq.synchronize_task");
        reserve["data"] = json!({"queue_name": "stage", "action": "play", "input_data": {}});
        assert_eq!(post(b, &own, "internal.frestq", &reserve).await.status, 409);
        assert_eq!((b.runs(&id_of_task), b.output(&id_of_task).await), (1, json!("once")));
        siege.is_over(&before).await;
        // As a new task it is run.
        let mut new = again(&a.url);
        new["task_id"] = json!(id());
        assert_eq!(post(b, &own, "work", &new).await.status, 200);
        assert_eq!(b.output(text(&new, "task_id")).await, "twice");
    }

    async fn a_used_message_id_stands_for_no_other_body_queue_or_sender(store) {
        let siege = Siege::new(&store).await;
        let (a, b) = (&siege.a, &siege.b);
        let own = client(a, "a");
        let task = message(&a.url, "echo", json!("once"));
        let id_of_task = text(&task, "task_id").to_owned();
        assert_eq!(post(b, &own, "work", &task).await.status, 200);
        b.output(&id_of_task).await;
        let before = siege.rows().await;
        let mut other = task.clone();
        other["data"] = json!("twice");
        other["task_id"] = json!(id());
        assert_eq!(post(b, &own, "work", &other).await.status, 409);
        let mut report = update(&a.url, &id(), "finished", json!(1));
        report["message_id"] = task["message_id"].clone();
        is_refused(post(b, &own, "internal.frestq", &report).await.status, "another queue");
        // The very same gets its old answer, and does nothing.
        assert_eq!(post(b, &own, "work", &task).await.status, 200);
        assert_eq!(b.runs(&id_of_task), 1);
        siege.is_over(&before).await;
        // Ids are each sender's own: C can neither use up nor find out what A has used.
        let mut of_c = message(&siege.c_url, "echo", json!("C's own"));
        of_c["message_id"] = task["message_id"].clone();
        assert_eq!(siege.post("work", &of_c).await.status, 200);
        assert_eq!(b.output(text(&of_c, "task_id")).await, "C's own");
    }

    async fn of_a_batch_in_which_all_is_hostile_nothing_gets_in(store) {
        let siege = Siege::new(&store).await;
        let (a, b) = (&siege.a, &siege.b);
        let received = a.send(&b.url, "work", "wait", json!({"gate": "go"})).await;
        b.started(&received, 1).await;
        let before = siege.rows().await;
        let row = b.task(&received).await;
        let (own, deep) = (&siege.c_url, format!("{}{}", "[".repeat(64), "]".repeat(64)));
        let deep: Value = serde_json::from_str(&deep).unwrap();
        let mut elsewhere = message(own, "echo", json!(1));
        elsewhere["ext"] = json!({"destination": "https://d.example.org/api/queues"});
        let mut used = message(own, "echo", json!(1));
        used["task_id"] = json!(received);
        let mut nameless = message(own, "echo", json!(1));
        nameless["message_id"] = json!("");
        let mut kinds: Vec<(&str, Value)> = about(own, &received)
            .into_iter()
            .map(|message| ("internal.frestq", message))
            .collect();
        kinds.extend([
            ("work", message(&a.url, "echo", json!(1))),
            ("work", message(&b.url, "echo", json!(1))),
            ("work", message(own, "private", json!(1))),
            ("work", message(own, "no_such_action", json!(1))),
            ("no_such_queue", message(own, "echo", json!(1))),
            ("internal.frestq", message(own, "frestq.batch", json!([]))),
            ("work", message(own, "echo", deep)),
            ("work", elsewhere),
            ("work", used),
            ("work", nameless),
            ("work", json!([1, 2, 3])),
            ("work", json!({})),
        ]);
        let entries: Vec<_> = (0..1000)
            .map(|n| {
                let (queue, mut message) = kinds[n % kinds.len()].clone();
                if message["message_id"].as_str().is_some_and(|id| !id.is_empty()) {
                    message["message_id"] = json!(id());
                }
                json!({"queue": queue, "message": message})
            })
            .collect();
        let answers = siege.batch(&entries).await;
        assert_eq!(answers.len(), 1000);
        for (entry, answer) in entries.iter().zip(&answers) {
            let status = answer["status"].as_u64().unwrap();
            is_refused(u16::try_from(status).unwrap(), &format!("{entry}: {answer}"));
        }
        assert_eq!(b.task(&received).await, row);
        siege.is_over(&before).await;
        // The honest ones among hostile ones get in.
        let honest = message(own, "echo", json!("honest"));
        let mut entries = entries[..999].to_vec();
        entries.push(json!({"queue": "work", "message": honest}));
        let answers = siege.batch(&entries).await;
        assert_eq!(answers[999]["status"], 200);
        assert_eq!(b.output(text(&honest, "task_id")).await, "honest");
        // More than that are not looked at.
        entries.extend(entries[..2].to_vec());
        let longer = message(own, "frestq.batch", json!(entries));
        assert_eq!(siege.post("internal.frestq", &longer).await.status, 413);
        b.open("go");
        assert_eq!(a.output(&received).await, 1);
    }

    async fn a_certificate_is_worth_nothing_without_its_key(store) {
        let siege = Siege::new(&store).await;
        let b = &siege.b;
        let before = siege.rows().await;
        let posting = |message: &Value| {
            let body = message.to_string();
            let length = body.len();
            format!("{}Content-Length: {length}\r\n\r\n{body}", head("say_queue")).into_bytes()
        };
        let stolen = Arc::new(showing(b, "c", "stranger"));
        for sender in [&siege.c_url, &siege.a.url] {
            for _ in 0..10 {
                assert_eq!(answer(b, &stolen, &posting(&hello(sender))).await, "");
            }
        }
        siege.is_over(&before).await;
        let own = Arc::new(showing(b, "c", "c"));
        let said = answer(b, &own, &posting(&hello(&siege.c_url))).await;
        assert!(said.starts_with("HTTP/1.1 200"), "{said}");
    }

    async fn a_header_gives_nobody_an_identity(store) {
        let siege = Siege::new(&store).await;
        let (a, b) = (&siege.a, &siege.b);
        let before = siege.rows().await;
        let pem = std::fs::read_to_string(a.file("a.pem")).unwrap();
        let base64: String = pem.lines().filter(|line| !line.starts_with("---")).collect();
        let headers = [
            ("X-Sender-SSL-Certificate", pem.replace('\n', "\t")),
            ("X-Sender-SSL-Certificate", pem.replace('\n', "%0A").replace(' ', "%20")),
            ("Client-Cert", format!(":{base64}:")),
            ("X-Forwarded-For", "127.0.0.1".to_owned()),
            ("Forwarded", "for=127.0.0.1".to_owned()),
        ];
        for http in [&client(b, "stranger"), &b.http, &siege.c] {
            for (name, value) in &headers {
                let request = http.post(format!("{}/say_queue/", b.url)).header(*name, value);
                let answer = b.ask(request.body(hello(&a.url).to_string())).await.unwrap();
                assert_eq!(answer.status, 403, "{name}: {}", answer.body);
            }
        }
        siege.is_over(&before).await;
        // Whoever has the certificate is let in.
        assert_eq!(post(b, &client(a, "a"), "say_queue", &hello(&a.url)).await.status, 200);
    }
}
