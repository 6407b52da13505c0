//! A message is delivered however its receiver fails, unless it is refused or its time is over; and
//! one receiver's failing is no other's.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::harness::{Fake, Peer, Reply, free_port, message, text, until, url_of};

/// "Not now", with how long to stay away.
fn come_back_in(seconds: u64) -> Reply {
    Reply::Says(503, format!("retry-after: {seconds}\r\n"), String::new())
}

/// "Over there."
fn redirect(status: u16, to: &Fake) -> Reply {
    Reply::Says(
        status,
        format!("location: {}/work/\r\n", to.url),
        String::new(),
    )
}

/// Waits until a task has ended, however.
async fn end(peer: &Peer, task: &str) -> Value {
    crate::harness::eventually("the task ends", async || {
        let task = peer.task(task).await;
        let ended = ["finished", "error", "expired", "undeliverable"]
            .iter()
            .any(|end| task["status"] == **end);
        ended.then_some(task)
    })
    .await
}

on_each_store! {
    async fn a_task_for_a_peer_that_is_down_waits_for_it(store) {
        let a = Peer::start(&store, "a").await;
        let mut b = Peer::new(&store, "b").await;
        b.createdb();
        let task = a.send(&b.url, "work", "echo", json!("patience")).await;
        until("A has tried", async || {
            a.database
                .number("SELECT coalesce(max(attempts), 0) FROM outbox")
                .await
                >= 1
        })
        .await;
        assert_eq!(a.task(&task).await["status"], "created");
        b.run().await;
        assert_eq!(a.output(&task).await, "patience");
    }

    async fn a_proxy_that_answers_in_a_peers_place_does_not_make_it_an_original_one(store) {
        let a = Peer::start_with(&store, "a", &[("FRESTQ_DELIVERY__BATCH", "1")]).await;
        let fake = Fake::answering(|n, _| match n {
            1 => Reply::status(502),
            _ => Reply::Says(200, "restqp-extensions: batch, ext\r\n".to_owned(), String::new()),
        })
        .await;
        let running = a.send(&fake.url, "work", "echo", json!(1)).await;
        fake.sees_task(&running).await;
        let other = a.send(&fake.url, "work", "echo", json!(2)).await;
        until("A was answered 502", async || {
            a.database.number("SELECT count(*) FROM outbox WHERE answer = 502").await == 1
        })
        .await;
        let cancelled = a.cli(&["--cancel", &running]);
        assert!(cancelled.status.success(), "{cancelled:?}");
        until("the peer is told", async || {
            let seen = fake.seen();
            let about = |action: &str, task: &str| {
                seen.iter().any(|seen| {
                    let body = String::from_utf8_lossy(&seen.body).into_owned();
                    body.contains(action) && body.contains(task)
                })
            };
            about("frestq.cancel_task", &running) && about("echo", &other)
        })
        .await;
    }

    async fn a_task_that_is_called_off_before_its_time_is_never_sent(store) {
        let a = Peer::start(&store, "a").await;
        let fake = Fake::new().await;
        let order = json!({"to": fake.url, "queue": "work", "action": "echo", "data": 1, "delay_ms": 1500});
        let delayed = a.order(&order).await;
        let cancelled = a.cli(&["--cancel", &delayed]);
        assert!(cancelled.status.success(), "{cancelled:?}");
        until("its message is settled", async || {
            let settled = "SELECT count(*) FROM outbox WHERE state = 2 AND last_error LIKE 'its task has ended%'";
            a.database.number(settled).await == 1
        })
        .await;
        assert!(fake.seen().is_empty(), "{:?}", fake.seen());
    }

    async fn what_fails_for_now_is_sent_again_in_the_same_bytes(store) {
        let a = Peer::start_with(&store, "a", &[("FRESTQ_DELIVERY__TIMEOUT", "500ms")]).await;
        let elsewhere = Fake::new().await;
        let scripts = [
            vec![come_back_in(1)],
            vec![Reply::status(503)],
            vec![Reply::status(500), Reply::Resets],
            vec![Reply::status(502)],
            vec![Reply::status(408)],
            vec![Reply::status(425)],
            vec![Reply::status(429)],
            vec![Reply::status(405)],
            vec![Reply::status(401)],
            vec![Reply::Resets],
            vec![Reply::Hangs],
            vec![redirect(301, &elsewhere)],
            vec![redirect(302, &elsewhere)],
            vec![redirect(307, &elsewhere)],
            vec![redirect(308, &elsewhere)],
        ];
        join_all(scripts.map(async |script| {
            let attempts = script.len() + 1;
            let shown = format!("{script:?}");
            let b = Fake::first(script).await;
            let task = a
                .send(&b.url, "work", "echo", json!({"a": [1.50, "é"]}))
                .await;
            let seen = b.sees(attempts).await;
            a.reaches(&task, "sent").await;
            assert!(
                seen.iter().all(|again| again.body == seen[0].body),
                "{shown}"
            );
            assert!(
                seen.iter().all(|again| again.path() == "/api/queues/work/"),
                "{shown}"
            );
            assert_eq!(b.seen().len(), attempts, "{shown}");
        }))
        .await;
        assert!(elsewhere.seen().is_empty(), "a redirect was followed");
    }

    async fn the_same_bytes_are_sent_after_a_crash(store) {
        let mut a = Peer::start(&store, "a").await;
        let b = Fake::first([Reply::status(503), Reply::Hangs]).await;
        let order = json!({
            "to": b.url, "queue": "work", "action": "echo", "data": {"b": 1.50, "a": "é"},
            "info": "a note", "label": "stays here", "expires_in_ms": 600_000,
        });
        let task = a.order(&order).await;
        b.sees(2).await;
        a.kill();
        a.run().await;
        a.reaches(&task, "sent").await;
        let seen = b.seen();
        assert!(seen.iter().all(|again| again.body == seen[0].body));
        let sent = seen[0].json();
        assert_eq!(sent["info"], "a note");
        assert!(sent.get("label").is_none());
        // To a peer that has shown no extensions: without an offset.
        let date = text(&sent, "expiration_date");
        date.parse::<jiff::civil::DateTime>().unwrap();
        assert!(!date.ends_with('Z'), "{date}");
    }

    async fn retry_after_is_obeyed(store) {
        let a = Peer::start(&store, "a").await;
        let b = Fake::first([come_back_in(2)]).await;
        a.send(&b.url, "work", "echo", json!(1)).await;
        let seen = b.sees(2).await;
        let waited = seen[1].at - seen[0].at;
        assert!(waited >= Duration::from_millis(1990), "{waited:?}");
    }

    async fn a_delayed_task_is_not_sent_earlier(store) {
        let a = Peer::start(&store, "a").await;
        let b = Fake::new().await;
        let before = std::time::Instant::now();
        let order = json!({"to": b.url, "queue": "work", "action": "echo", "delay_ms": 1500});
        let later = a.order(&order).await;
        let now = a.send(&b.url, "work", "echo", json!(1)).await;
        let seen = b.sees(2).await;
        assert!(seen[0].carries(&now) && seen[1].carries(&later));
        assert!(seen[1].at - before >= Duration::from_millis(1490));
    }

    async fn a_delayed_task_is_tried_as_long_as_others(store) {
        let a = Peer::start_with(&store, "a", &[("FRESTQ_DELIVERY__GIVE_UP_AFTER", "1s")]).await;
        let b = Fake::new().await;
        let order = json!({"to": b.url, "queue": "work", "action": "echo", "delay_ms": 1500});
        let task = a.order(&order).await;
        assert!(b.sees(1).await[0].carries(&task));
    }

    async fn what_is_refused_ends_in_error_at_once_with_the_receivers_words(store) {
        let a = Peer::start(&store, "a").await;
        join_all([400, 403, 404, 409, 413, 422].map(async |status| {
            let words = format!("because of {status}");
            let said = json!({"message": words}).to_string();
            let b = Fake::first([Reply::Says(status, String::new(), said)]).await;
            let task = a.send(&b.url, "some_queue", "some_action", json!(1)).await;
            let error = a.error(&task).await;
            let code = if status == 404 {
                "unknown action"
            } else {
                "refused"
            };
            assert_eq!(text(&error, "error"), code);
            let message = text(&error, "message");
            assert!(message.contains("some_queue/some_action"), "{message}");
            assert!(message.contains(&words), "{message}");
            // What is sent next is the next request: the refused one does not come again.
            let next = a.send(&b.url, "some_queue", "other", json!(1)).await;
            a.reaches(&next, "sent").await;
            let seen = b.seen();
            assert_eq!(seen.len(), 2);
            assert!(seen[1].carries(&next));
        }))
        .await;
    }

    async fn the_handle_of_a_refused_task_says_why(store) {
        let (a, b) = (
            Peer::start(&store, "a").await,
            Peer::start(&store, "b").await,
        );
        let failed = a.call(&b.url, "work", "nonsense", json!(1)).await["failed"].clone();
        assert_eq!(failed["error"], "unknown action");
        let message = text(&failed, "message");
        assert!(
            message.contains("work/nonsense") && message.contains("work/echo"),
            "{message}"
        );
    }

    async fn a_message_from_a_peer_that_was_away_closes_its_breaker_at_once(store) {
        let a = Peer::start(&store, "a").await;
        let b = Fake::first(vec![Reply::Resets; 3]).await;
        let task = a.send(&b.url, "work", "echo", json!(1)).await;
        b.sees(3).await;
        let open_until = "SELECT coalesce(max(probe_at), 0) FROM peers WHERE failures >= 3";
        until("the breaker is open", async || {
            a.database.number(open_until).await > 0
        })
        .await;
        let open_until = a.database.number(open_until).await;
        // Even a message that is refused shows that its sender is there.
        let refused = a
            .deliver("work", &message(&b.url, "nonsense", json!(1)))
            .await;
        assert_eq!(refused.status, 404);
        a.reaches(&task, "sent").await;
        assert!(
            jiff::Timestamp::now().as_microsecond() < open_until,
            "it came as a probe"
        );
        assert_eq!(b.seen().len(), 4);
    }

    async fn a_dead_peer_slows_no_other(store) {
        let (a, b) = (
            Peer::start(&store, "a").await,
            Peer::start(&store, "b").await,
        );
        let hangs = Fake::answering(|_, _| Reply::Hangs).await;
        let closed = url_of(free_port());
        let mut stuck = Vec::new();
        for n in 0..60 {
            stuck.push(a.send(&hangs.url, "work", "echo", json!(n)).await);
            stuck.push(a.send(&closed, "work", "echo", json!(n)).await);
        }
        hangs.sees(1).await;
        let tasks = join_all((0..60).map(|n| a.send(&b.url, "work", "echo", json!(n)))).await;
        for (n, task) in tasks.iter().enumerate() {
            assert_eq!(a.output(task).await, n);
        }
        for task in stuck {
            assert_eq!(a.task(&task).await["status"], "created");
        }
    }

    async fn a_task_that_comes_too_late_expires_and_is_not_sent_any_more(store) {
        let a = Peer::start(&store, "a").await;
        let port = free_port();
        let order =
            json!({"to": url_of(port), "queue": "work", "action": "echo", "expires_in_ms": 1200});
        let task = a.order(&order).await;
        let ended = end(&a, &task).await;
        assert_ne!(ended["status"], "finished");
        assert!(["expired", "undeliverable"].contains(&text(&ended["output_data"], "error")));

        let b = Fake::on_port(port, |_, _| Reply::ok()).await;
        let next = a.send(&b.url, "work", "echo", json!(1)).await;
        a.reaches(&next, "sent").await;
        assert!(!b.seen().iter().any(|seen| seen.carries(&task)));
        assert_eq!(a.task(&task).await, ended);
    }

    async fn a_task_without_an_expiration_is_given_up_at_last(store) {
        let a =
            Peer::start_with(&store, "a", &[("FRESTQ_DELIVERY__GIVE_UP_AFTER", "1000ms")]).await;
        let task = a.send(&url_of(free_port()), "work", "echo", json!(1)).await;
        let ended = a.reaches(&task, "undeliverable").await;
        assert_eq!(text(&ended["output_data"], "error"), "undeliverable");
        let watch = a.cli(&["--watch", &task]);
        assert_eq!(watch.status.code(), Some(1));
    }

    /// Past what one batch holds, with messages among them that are refused, each for its own reason.
    async fn what_gathered_for_a_peer_arrives_and_a_bad_message_spoils_no_other(store) {
        let a = Peer::start(&store, "a").await;
        let mut b = Peer::start_with(&store, "b", &[("FRESTQ_BODY_LIMIT", "100000")]).await;
        // Now A knows that B reads batches.
        assert_eq!(a.call(&b.url, "work", "echo", json!(1)).await["output"], 1);
        b.stop().await;
        let deep = |levels: usize| {
            serde_json::from_str::<Value>(&format!("{}{}", "[".repeat(levels), "]".repeat(levels)))
        };
        let (mut good, mut refused) = (Vec::new(), Vec::new());
        for n in 0..600 {
            good.push((
                a.send(&b.url, "work", "count", json!({"n": n})).await,
                json!(n * 2),
            ));
            match n {
                100 => refused.push(a.send(&b.url, "work", "nonsense", json!(n)).await),
                200 => refused.push(a.send(&b.url, "work", "echo", deep(70).unwrap()).await),
                // Just within the limit when it travels alone.
                300 => {
                    let data = deep(63).unwrap();
                    good.push((a.send(&b.url, "work", "echo", data.clone()).await, data));
                }
                400 => refused.push(
                    a.send(&b.url, "work", "echo", json!("x".repeat(100_000)))
                        .await,
                ),
                _ => {}
            }
        }
        b.run().await;
        for (task, output) in &good {
            assert_eq!(a.output(task).await, *output);
        }
        for task in &refused {
            a.error(task).await;
        }
        let counts = b.database.counts().await;
        assert_eq!(counts["counted"], 600);
        assert_eq!(counts["tasks"], 1 + i64::try_from(good.len()).unwrap());
    }
}
