//! What is not of the format is refused in words that name the fault, leaves nothing behind, and
//! does not hurt the peer.

use serde_json::{Value, json};

use crate::harness::{Peer, id, message, text, url_of};

/// A good message of a sender that nobody has heard of; with one member replaced, or taken out.
fn with(member: &str, value: Option<Value>) -> String {
    let mut message = message(&url_of(9), "echo", json!(1));
    let members = message.as_object_mut().unwrap();
    match value {
        Some(value) => members.insert(member.to_owned(), value),
        None => members.remove(member),
    };
    message.to_string()
}

/// A good message whose data is this text.
fn with_data(data: &str) -> String {
    with("data", Some(json!("DATA"))).replace("\"DATA\"", data)
}

/// Each body with what its refusal must say.
fn malformed() -> Vec<(String, &'static str)> {
    let mut rows: Vec<(String, &str)> = vec![
        ("".into(), "JSON object"),
        ("hello".into(), "JSON object"),
        ("{\"message_id\": \"1\"".into(), "JSON"),
        ("[]".into(), "JSON object"),
        ("\"text\"".into(), "JSON object"),
        ("null".into(), "JSON object"),
        (format!("{} x", with("info", None)), "JSON"),
        (with_data("NaN"), "JSON"),
        (with_data("-Infinity"), "JSON"),
        (with_data("{'a': 1}"), "JSON"),
        (
            with_data(&format!("{}{}", "[".repeat(64), "]".repeat(64))),
            "64",
        ),
        (with_data(&"[".repeat(100_000)), "nested deeper"),
        (with_data(&"{\"a\":".repeat(100_000)), "nested deeper"),
        (with("message_id", Some(json!(""))), "`message_id`"),
        (with("task_id", Some(json!(""))), "`task_id`"),
        (with("async_data", Some(json!({"a": 1}))), "`async_data`"),
        (with("ext", Some(json!("x"))), "`ext`"),
        (with("ext", Some(json!({"rev": "1"}))), "`ext`"),
    ];
    for (field, longest) in [
        ("message_id", 1024),
        ("action", 1024),
        ("sender_url", 1024),
        ("task_id", 128),
        ("info", 1024),
    ] {
        let name: &str = ["`", field, "`"].concat().leak();
        for wrong in [json!(5), json!([]), json!({}), json!(true)] {
            rows.push((with(field, Some(wrong)), name));
        }
        let long = format!("http://127.0.0.1/{}", "é".repeat(longest));
        rows.push((with(field, Some(json!(long))), name));
        // Databases differ in what they make of it.
        rows.push((with(field, Some(json!("a\u{0}b"))), name));
    }
    for field in ["message_id", "action", "sender_url", "task_id"] {
        let name: &str = ["`", field, "`"].concat().leak();
        rows.push((with(field, None), name));
        rows.push((with(field, Some(Value::Null)), name));
    }
    for url in [
        "127.0.0.1:5000",
        "ftp://a/api/queues",
        "http://",
        "/api/queues",
        "http://u:p@a/",
    ] {
        rows.push((with("sender_url", Some(json!(url))), "`sender_url`"));
    }
    for field in ["pingback_date", "expiration_date"] {
        let name: &str = ["`", field, "`"].concat().leak();
        for date in [
            "soon",
            "",
            "2026-13-01T00:00:00",
            "1700000000",
            "99999-01-01T00:00:00Z",
        ] {
            rows.push((with(field, Some(json!(date))), name));
        }
        rows.push((with(field, Some(json!(1_700_000_000))), name));
    }
    rows
}

/// Bodies for the internal queue.
fn malformed_updates() -> Vec<(String, &'static str)> {
    let update = |data: Value| {
        let mut update = message(&url_of(9), "frestq.update_task", data);
        update["message_id"] = json!(id());
        update
    };
    let mut without_task = update(json!({"status": "finished", "output_data": 1}));
    without_task.as_object_mut().unwrap().remove("task_id");
    vec![
        (without_task.to_string(), "`task_id`"),
        (update(json!("")).to_string(), "`data`"),
        (
            update(json!({"output_data": 1})).to_string(),
            "`data.status`",
        ),
        (update(json!({"status": 1})).to_string(), "`data.status`"),
        (
            update(json!({"status": "done"})).to_string(),
            "`data.status`",
        ),
        (
            update(json!({"status": "cancelled"})).to_string(),
            "`data.status`",
        ),
    ]
}

/// It still does what it is for.
async fn serves(peer: &Peer) {
    let answer = peer
        .deliver("work", &message(&url_of(9), "echo", json!(1)))
        .await;
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
}

on_each_store! {
    async fn a_malformed_message_is_refused_by_the_name_of_its_fault_and_leaves_nothing(store) {
        let peer = Peer::start(&store, "b").await;
        let before = peer.database.counts().await;
        let rows = malformed().into_iter().map(|row| ("work", row));
        let internal = malformed_updates()
            .into_iter()
            .map(|row| ("internal.frestq", row));
        for (queue, (body, fault)) in rows.chain(internal) {
            let shown: String = body.chars().take(300).collect();
            let answer = peer.post(queue, body).await;
            assert_eq!(answer.status, 400, "{shown}: {}", answer.body);
            let words = answer.refusal();
            assert!(words.contains(fault), "{shown}: {words}");
            assert!(words.len() < 500, "{shown}: {words}");
        }
        let answer = peer
            .post("work", b"{\"message_id\": \"\xff\"}".to_vec())
            .await;
        assert_eq!(answer.status, 400);
        assert!(answer.refusal().contains("UTF-8"));
        assert_eq!(peer.database.counts().await, before);
        serves(&peer).await;
    }

    async fn an_unknown_action_is_refused_with_those_there_are(store) {
        let peer = Peer::start(&store, "b").await;
        let before = peer.database.counts().await;
        for (queue, action) in [
            ("work", "nonsense"),
            ("work", ""),
            ("nowhere", "echo"),
            ("say_queue", "echo"),
            ("work", "private"),
            ("internal.frestq", "echo"),
            ("internal.frestq", "frestq.nonsense"),
        ] {
            let answer = peer
                .deliver(queue, &message(&url_of(9), action, json!(1)))
                .await;
            assert_eq!(answer.status, 404, "{queue}/{action}");
            let words = answer.refusal();
            assert!(words.contains(action), "{words}");
            if queue != "internal.frestq" {
                assert!(
                    words.contains("work/echo") && words.contains("say_queue/hello_world"),
                    "{words}"
                );
                assert!(!words.contains("work/private"), "{words}");
            }
        }
        assert_eq!(peer.database.counts().await, before);
        serves(&peer).await;
    }

    async fn a_body_over_the_limit_is_refused(store) {
        let peer = Peer::start_with(&store, "b", &[("FRESTQ_BODY_LIMIT", "20000")]).await;
        let before = peer.database.counts().await;
        for bytes in [20_000, 2_000_000] {
            let task = message(&url_of(9), "echo", json!("x".repeat(bytes)));
            let request = peer
                .http
                .post(format!("{}/work/", peer.url))
                .body(task.to_string());
            // Its connection may be closed before all of it is written.
            if let Ok(answer) = peer.ask(request).await {
                assert_eq!(answer.status, 413);
                answer.refusal();
            }
        }
        assert_eq!(peer.database.counts().await, before);
        let task = message(&url_of(9), "echo", json!("x".repeat(19_000)));
        assert_eq!(peer.deliver("work", &task).await.status, 200);
    }

    async fn only_post_is_allowed(store) {
        let peer = Peer::start(&store, "b").await;
        let url = format!("{}/work/", peer.url);
        for request in [
            peer.http.get(&url),
            peer.http.put(&url).body("{}"),
            peer.http.delete(&url),
        ] {
            assert_eq!(peer.ask(request).await.unwrap().status, 405);
        }
        serves(&peer).await;
    }

    async fn any_content_type_and_either_form_of_the_path_is_accepted(store) {
        let peer = Peer::start(&store, "b").await;
        for path in ["/work/", "/work"] {
            for content_type in [
                None,
                Some("application/json"),
                Some("text/plain"),
                Some("nonsense"),
            ] {
                let task = message(&url_of(9), "echo", json!(path));
                let mut request = peer
                    .http
                    .post(format!("{}{path}", peer.url))
                    .body(task.to_string());
                if let Some(content_type) = content_type {
                    request = request.header("Content-Type", content_type);
                }
                assert_eq!(
                    peer.ask(request).await.unwrap().status,
                    200,
                    "{path} {content_type:?}"
                );
                assert_eq!(peer.output(text(&task, "task_id")).await, path);
            }
        }
    }

    async fn dates_with_and_without_an_offset_are_read(store) {
        let peer = Peer::start(&store, "b").await;
        for (date, meant) in [
            ("2096-11-24T02:50:52.123456", "2096-11-24T02:50:52.123456Z"),
            ("2096-11-24T02:50:52", "2096-11-24T02:50:52Z"),
            ("2096-11-24T02:50:52.5Z", "2096-11-24T02:50:52.5Z"),
            ("2096-11-24T02:50:52+00:00", "2096-11-24T02:50:52Z"),
            ("2096-11-24T02:50:52-03:00", "2096-11-24T05:50:52Z"),
        ] {
            let mut task = message(&url_of(9), "echo", json!(1));
            task["expiration_date"] = json!(date);
            task["pingback_date"] = json!(date);
            assert_eq!(peer.deliver("work", &task).await.status, 200, "{date}");
            let record = peer.reaches(text(&task, "task_id"), "finished").await;
            for field in ["expiration_date", "pingback_date"] {
                let read: jiff::Timestamp = text(&record, field).parse().unwrap();
                assert_eq!(read, meant.parse().unwrap(), "{date}");
            }
        }
    }

    /// Numbers, the order of keys, strings that look like dates, everything.
    async fn a_payload_comes_back_as_the_very_text_that_was_sent(store) {
        let peer = Peer::start(&store, "b").await;
        let a = crate::harness::Fake::new().await;
        for payload in [
            r#"{ "z":1.0e5,"a" : 12345678901234567890123.10, "d":"2026-11-24T02:50:52.123456"}"#,
            r#""\u00e9\u0000 \ud83d\ude00 \/ \"""#,
            r#""é 😀""#,
            r#"[[[]],{},"",null,false,-0.0,1E400]"#,
            r#"{"a":1,"a":2}"#,
            r#""\ud800""#,
            "null",
        ] {
            let mut task = message(&a.url, "echo", json!(null));
            let id = text(&task, "task_id").to_owned();
            task.as_object_mut().unwrap().remove("data");
            let body = format!(
                "{},\"data\":{payload}}}",
                task.to_string().trim_end_matches('}')
            );
            let answer = peer.post("work", body).await;
            assert_eq!(answer.status, 200, "{payload}: {}", answer.body);
            let update = String::from_utf8(a.sees_task(&id).await.body).unwrap();
            assert!(
                update.contains(&format!(
                    "\"output_data\":{payload},\"status\":\"finished\""
                )),
                "{payload}: {update}"
            );
        }
    }
}
