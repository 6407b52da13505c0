//! Requests that take up more than their due.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use super::{Siege, is_refused};
use crate::harness::{
    Fake, PATIENCE, id, message,
    raw::{answer, connect, head, rest, showing},
    text,
};

/// The status of an answer; none if the connection ended without one.
fn status(answer: &str) -> Option<u16> {
    answer.split(' ').nth(1)?.parse().ok()
}

on_each_store! {
    async fn a_huge_body_is_neither_taken_in_nor_kept(store) {
        let siege = Siege::new(&store).await;
        let b = &siege.b;
        let before = siege.rows().await;
        let chunk = format!("100000\r\n{}\r\n", "x".repeat(0x10_0000));
        let promised = format!("{}Content-Length: 10000000000\r\n\r\n", head("work"));
        let chunked = format!("{}Transfer-Encoding: chunked\r\n\r\n", head("work"));
        for name in ["c", "stranger"] {
            let config = Arc::new(showing(b, name, name));
            // 32 at a time, each of 64 MiB if all of it were read.
            let attacks = (0..32).map(|n| {
                let head = [&promised, &chunked][n % 2];
                let (config, chunk) = (&config, chunk.as_bytes());
                async move {
                    let mut stream = connect(b, config).await.unwrap();
                    let attack = async {
                        let mut sent = stream.write_all(head.as_bytes()).await;
                        for _ in 0..64 {
                            if sent.is_err() {
                                break;
                            }
                            sent = stream.write_all(chunk).await;
                        }
                        rest(stream).await
                    };
                    let said = tokio::time::timeout(PATIENCE, attack).await.expect("an end");
                    // It may end the connection while we still write; then the answer may be lost.
                    if let Some(status) = status(&said) {
                        is_refused(status, &said);
                    }
                }
            });
            join_all(attacks).await;
        }
        siege.is_over(&before).await;
        // What is announced is answered before it comes.
        let own = Arc::new(showing(b, "c", "c"));
        assert_eq!(status(&answer(b, &own, promised.as_bytes()).await), Some(413));
        assert_eq!(siege.honest(&json!("x".repeat(500_000))).await.status, 200);
    }

    async fn a_body_that_comes_byte_by_byte_is_given_up_and_holds_up_nobody(store) {
        let settings = [("FRESTQ_LIMITS__BODY_TIMEOUT", "1s")];
        let (siege, _server) = Siege::with(&store, &settings, Fake::new().await).await;
        let b = &siege.b;
        let before = siege.rows().await;
        let own = Arc::new(showing(b, "c", "c"));
        let body = message(&siege.c_url, "echo", json!("x".repeat(100_000))).to_string();
        let request = format!("{}Content-Length: {}\r\n\r\n", head("work"), body.len());
        let attacks = join_all((0..20).map(|_| async {
            let stream = connect(b, &own).await.unwrap();
            let (reads, mut writes) = tokio::io::split(stream);
            let drip = async {
                writes.write_all(request.as_bytes()).await?;
                let mut pace = tokio::time::interval(Duration::from_millis(20));
                for byte in body.bytes() {
                    pace.tick().await;
                    writes.write_all(&[byte]).await?;
                    writes.flush().await?;
                }
                Ok::<_, std::io::Error>(())
            };
            let reads = rest(reads);
            tokio::pin!(reads);
            let said = tokio::select! {
                said = &mut reads => said,
                _ = drip => reads.await,
            };
            assert_eq!(status(&said), Some(408), "{said}");
        }));
        let served = async {
            for _ in 0..10 {
                siege.serves_a().await;
            }
        };
        tokio::join!(attacks, served);
        let mut after = siege.rows().await;
        // A's tasks and messages are among the rows.
        for (table, count) in &before {
            let more = after[table] - count;
            assert!(more == 0 || (more == 10 && table != "peers"), "{table}: {more}");
            after.insert(table.clone(), *count);
        }
        siege.holds().await;
    }

    async fn ten_thousand_headers_are_refused(store) {
        let siege = Siege::new(&store).await;
        let b = &siege.b;
        let own = Arc::new(showing(b, "c", "c"));
        let task = message(&siege.c_url, "echo", json!("headers"));
        let request = |headers: usize, length: usize| {
            let mut message = task.clone();
            if headers > 10 {
                message["message_id"] = json!(id());
                message["task_id"] = json!(id());
            }
            let body = message.to_string();
            let more: String = (0..headers).map(|n| format!("X-{n}: {}\r\n", "y".repeat(length))).collect();
            format!("{}{more}Content-Length: {}\r\n\r\n{body}", head("work"), body.len()).into_bytes()
        };
        let few = answer(b, &own, &request(10, 10)).await;
        assert_eq!(status(&few), Some(200), "{few}");
        b.output(text(&task, "task_id")).await;
        let before = siege.rows().await;
        let attacks = (0..20).map(|n| {
            let (own, request) = (&own, request([10_000, 50][n % 2], [10, 100_000][n % 2]));
            async move { answer(b, own, &request).await }
        });
        for said in join_all(attacks).await {
            if let Some(status) = status(&said) {
                is_refused(status, &said);
            }
        }
        siege.is_over(&before).await;
    }

    async fn deep_json_is_refused_before_anything_descends_into_it(store) {
        let siege = Siege::new(&store).await;
        let before = siege.rows().await;
        let nested = |depth: usize| {
            let text = message(&siege.c_url, "note", json!("DEEP")).to_string();
            let deep = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
            text.replace("\"DEEP\"", &deep)
        };
        let ask = async |queue: &str, body: String| {
            let request = siege.c.post(format!("{}/{queue}/", siege.b.url));
            siege.b.ask(request.body(body)).await.unwrap()
        };
        for depth in [64, 1000, 100_000, 400_000] {
            let answer = ask("work", nested(depth)).await;
            assert_eq!(answer.status, 400, "{depth}: {}", answer.body);
            // And so in a batch.
            let batch = message(&siege.c_url, "frestq.batch", json!([{"queue": "work", "message": "DEEP"}]));
            let batch = batch.to_string().replace("\"DEEP\"", &nested(depth));
            let answer = ask("internal.frestq", batch).await;
            let refused = answer.status == 400 || answer.json()[0]["status"] == 400;
            assert!(refused, "{depth}: {} {}", answer.status, answer.body);
        }
        // Also where nothing closes.
        assert_eq!(ask("work", "[{\"a\":".repeat(100_000)).await.status, 400);
        siege.is_over(&before).await;
        assert_eq!(ask("work", nested(60)).await.status, 200);
    }
}
