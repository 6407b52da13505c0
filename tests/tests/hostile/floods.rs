//! A great many of what is refused.

use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::json;

use super::Siege;
use crate::harness::{
    message,
    raw::{answer, head, with_key},
    secure::hello,
    text,
};

/// What a flood may leave in the log.
const QUIET: usize = 512 * 1024;

on_each_store! {
    async fn ten_thousand_queue_names_leave_nothing_behind(store) {
        let siege = Siege::new(&store).await;
        let before = siege.rows().await;
        let log = siege.b.log().len();
        let name = |n: usize| format!("queue-{n}-{}", "x".repeat(60));
        let alone = stream::iter(0..2000).map(|n| {
            let (siege, name) = (&siege, name(n));
            async move { siege.post(&name, &message(&siege.c_url, "echo", json!(n))).await }
        });
        let answers: Vec<_> = alone.buffer_unordered(16).collect().await;
        assert!(answers.iter().all(|answer| answer.status == 404));
        for batch in 2..10 {
            let entries: Vec<_> = (0..1000)
                .map(|n| {
                    let message = message(&siege.c_url, &name(n), json!(n));
                    json!({"queue": name(batch * 1000 + n), "message": message})
                })
                .collect();
            let answers = siege.batch(&entries).await;
            assert!(answers.len() == 1000 && answers.iter().all(|answer| answer["status"] == 404));
        }
        assert!(siege.b.log().len() < log + QUIET, "{} bytes", siege.b.log().len());
        siege.is_over(&before).await;
        assert_eq!(siege.honest(&json!("a queue that is")).await.status, 200);
    }

    async fn what_changes_nothing_leaves_nothing_behind_however_much_of_it_comes(store) {
        let siege = Siege::new(&store).await;
        let task = message(&siege.c_url, "echo", json!(1));
        assert_eq!(siege.post("work", &task).await.status, 200);
        let id = text(&task, "task_id");
        siege.b.reaches(id, "finished").await;
        let before = siege.rows().await;
        let all = stream::iter(0..1000).map(|n| {
            let siege = &siege;
            async move {
                let mut off = message(&siege.c_url, "frestq.cancel_task", json!("x".repeat(n)));
                off["task_id"] = json!(id);
                siege.post("internal.frestq", &off).await
            }
        });
        let answers: Vec<_> = all.buffer_unordered(16).collect().await;
        assert!(answers.iter().all(|answer| answer.status == 200));
        siege.is_over(&before).await;
        assert_eq!(siege.b.task(id).await["status"], "finished");
    }

    async fn strangers_however_many_leave_no_trace_and_hide_nobody(store) {
        let siege = Siege::new(&store).await;
        let before = siege.rows().await;
        let log = siege.b.log().len();
        let body = hello(&siege.a.url).to_string();
        let request = format!("{}Content-Length: {}\r\n\r\n{body}", head("say_queue"), body.len());
        let key = rcgen::KeyPair::generate().unwrap();
        let strangers = stream::iter(0..1200).map(|_| {
            let certificate = rcgen::CertificateParams::default().self_signed(&key).unwrap();
            let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
            let config = Arc::new(with_key(vec![certificate.der().clone()], &key));
            let (siege, request) = (&siege, request.as_bytes());
            async move { answer(&siege.b, &config, request).await }
        });
        let answers: Vec<_> = strangers.buffer_unordered(16).collect().await;
        for said in answers {
            assert!(said.starts_with("HTTP/1.1 403"), "{said}");
        }
        assert!(siege.b.log().len() < log + QUIET, "{} bytes", siege.b.log().len());
        siege.is_over(&before).await;
        // What a registered peer is refused for is told all the same.
        let foreign = hello(&siege.a.url);
        assert_eq!(siege.post("say_queue", &foreign).await.status, 403);
        let log = siege.b.log();
        assert!(log.contains("peer c sent with a `sender_url` that is not its own"), "it is hidden by strangers");
    }
}
