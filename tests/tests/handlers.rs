//! What handlers do, good and bad, and what becomes of their tasks.

use futures_util::future::join_all;
use serde_json::json;

use crate::harness::{Fake, Peer, Reply, Store, message, text, until, url_of};

/// A peer that sends and one that runs.
async fn two(store: &Store) -> (Peer, Peer) {
    (Peer::start(store, "a").await, Peer::start(store, "b").await)
}

on_each_store! {
    async fn the_output_that_a_handler_sets_takes_the_place_of_what_it_returns(store) {
        let (a, b) = (Peer::start(&store, "a").await, Peer::start(&store, "b").await);
        let answer = a.call(&b.url, "work", "set_output", json!({"votes": 3})).await;
        assert_eq!(answer["output"], json!({"votes": 3}));
    }

    async fn a_panic_ends_the_task_in_error_with_its_message(store) {
        let (a, b) = two(&store).await;
        let task = a.send(&b.url, "work", "panic", json!("out of ink")).await;
        let error = a.error(&task).await;
        assert_eq!(error, json!({"error": "panicked", "message": "out of ink"}));
        assert_eq!(b.error(&task).await, error);
        assert_eq!(b.runs(&task), 1);
        assert_eq!(a.call(&b.url, "work", "echo", json!(1)).await["output"], 1);
    }

    async fn an_error_is_final_and_travels_with_its_causes(store) {
        let (a, b) = two(&store).await;
        let task = a.send(&b.url, "work", "fail", json!("no paper")).await;
        let error = a.error(&task).await;
        assert_eq!(
            error,
            json!({"error": "failed", "message": "failed as told: no paper"})
        );
        assert_eq!(b.runs(&task), 1);
    }

    async fn an_error_of_the_handlers_own_travels_as_it_is(store) {
        let (a, b) = two(&store).await;
        let failed = a.call(&b.url, "work", "coded", json!(null)).await["failed"].clone();
        let own = json!({"error": "no_votes", "message": "the ballot box is empty", "data": {"votes": 0}});
        assert_eq!(failed, own);
    }

    async fn an_invalid_input_is_an_error_that_names_the_field(store) {
        let (a, b) = two(&store).await;
        for (data, named) in [
            (json!({"voter": {"age": "old"}}), "voter.age"),
            (json!({"voter": {"age": 300}}), "voter.age"),
            (json!({"voter": {}}), "age"),
            (json!({}), "voter"),
            (json!(null), "null"),
        ] {
            let failed = a.call(&b.url, "work", "typed", data.clone()).await["failed"].clone();
            assert_eq!(failed["error"], "invalid input", "{data}");
            assert!(text(&failed, "message").contains(named), "{data}: {failed}");
        }
        let good = a
            .call(&b.url, "work", "typed", json!({"voter": {"age": 30}}))
            .await;
        assert_eq!(good["output"], 30);
    }

    async fn retries_run_again_and_keep_only_the_last_runs_effects(store) {
        let (a, b) = two(&store).await;
        let recovers = a.send(&b.url, "work", "flaky", json!({"fails": 1})).await;
        let fails = a.send(&b.url, "work", "flaky", json!({"fails": 9})).await;
        assert_eq!(a.output(&recovers).await, 2);
        assert_eq!(text(&a.error(&fails).await, "message"), "attempt 2");
        assert_eq!((b.runs(&recovers), b.runs(&fails)), (2, 2));
        let counted = b.database.pairs("SELECT task, n FROM counted").await;
        assert_eq!(counted, [(recovers, 2)]);
    }

    async fn a_run_over_its_time_limit_ends_in_error(store) {
        let (a, b) = two(&store).await;
        let task = a
            .send(&b.url, "work", "limited", json!({"gate": "never"}))
            .await;
        let error = a.error(&task).await;
        assert_eq!(text(&error, "error"), "timeout");
        assert!(text(&error, "message").contains("300ms"), "{error}");
        assert_eq!(b.runs(&task), 1);
    }

    /// Told by the order of events: the handlers go on only after everything was acknowledged.
    async fn a_handler_that_blocks_its_thread_delays_no_acknowledgement(store) {
        let b = Peer::start_with(&store, "b", &[("FRESTQ_HANDLER_THREADS", "2")]).await;
        let blockers: Vec<_> = (0..4)
            .map(|_| message(&url_of(9), "block", json!({"gate": "go"})))
            .collect();
        for task in &blockers {
            assert_eq!(b.deliver("blocking", task).await.status, 200);
        }
        until("both threads are blocked", async || {
            blockers
                .iter()
                .filter(|task| b.runs(text(task, "task_id")) == 1)
                .count()
                == 2
        })
        .await;
        let tasks: Vec<_> = (0..200)
            .map(|n| message(&url_of(9), "echo", json!(n)))
            .collect();
        let answers = join_all(tasks.iter().map(|task| b.deliver("work", task))).await;
        assert!(answers.iter().all(|answer| answer.status == 200));
        for task in &blockers {
            assert_eq!(b.task(text(task, "task_id")).await["status"], "executing");
        }
        b.open("go");
        for task in blockers.iter().chain(&tasks) {
            b.output(text(task, "task_id")).await;
        }
    }

    async fn a_run_cut_off_by_a_crash_is_run_again(store) {
        let (a, mut b) = two(&store).await;
        let task = a.send(&b.url, "work", "wait", json!({"gate": "go"})).await;
        b.started(&task, 1).await;
        b.kill();
        b.run().await;
        b.started(&task, 2).await;
        b.open("go");
        // Its output is the number of its attempt.
        assert_eq!(a.output(&task).await, 2);
        assert_eq!(b.task(&task).await["attempt"], 2);
    }

    async fn an_action_that_may_run_at_most_once_is_not_run_again(store) {
        let (a, mut b) = two(&store).await;
        let task = a.send(&b.url, "work", "once", json!({"gate": "go"})).await;
        b.started(&task, 1).await;
        b.kill();
        b.open("go");
        b.run().await;
        assert_eq!(text(&a.error(&task).await, "error"), "interrupted");
        assert_eq!(b.runs(&task), 1);
        // One that is not cut off is as good as any.
        assert_eq!(
            a.call(&b.url, "work", "once", json!({"gate": "go"})).await["output"],
            1
        );
    }

    async fn a_run_that_is_always_cut_off_ends_in_error(store) {
        let (a, mut b) = two(&store).await;
        let task = a.send(&b.url, "work", "twice", json!({"gate": "go"})).await;
        for run in 1..=2 {
            b.started(&task, run).await;
            b.kill();
            b.run().await;
        }
        assert_eq!(text(&a.error(&task).await, "error"), "interrupted");
        assert_eq!(b.runs(&task), 2);
    }

    async fn a_failing_statement_ends_the_task_in_error_and_undoes_the_others(store) {
        let (a, b) = two(&store).await;
        for statement in [
            "INSERT INTO no_such_table VALUES (1)",
            "nonsense",
            "INSERT INTO counted (task, n) VALUES (NULL, 1)",
        ] {
            let data = json!({"statements": [statement]});
            let (bad, good) = (
                a.send(&b.url, "work", "statements", data),
                a.send(&b.url, "work", "statements", json!({"statements": []})),
            );
            let (bad, good) = tokio::join!(bad, good);
            let error = a.error(&bad).await;
            assert_eq!(text(&error, "error"), "failed", "{statement}");
            assert!(
                text(&error, "message").contains("transaction failed"),
                "{error}"
            );
            // The database's own words stay in the log of the peer that ran it.
            for word in ["no_such_table", "nonsense", "NULL", "constraint", "SQL"] {
                assert!(!error.to_string().contains(word), "{error}");
            }
            a.output(&good).await;
            assert_eq!(b.runs(&bad), 1);
            let counted = b.database.pairs("SELECT task, n FROM counted").await;
            assert!(counted.contains(&(good, 0)), "{statement}: {counted:?}");
            assert!(
                !counted.iter().any(|(task, _)| *task == bad),
                "{statement}: {counted:?}"
            );
        }
    }

    /// The transaction is not the handler's alone: other tasks, and messages that are acknowledged
    /// with it, are in there.
    async fn a_handler_can_not_end_the_transaction(store) {
        let (a, b) = two(&store).await;
        for statement in [
            "COMMIT",
            "ROLLBACK",
            " rollback;",
            "END",
            "BEGIN",
            "SAVEPOINT x",
            "RELEASE handler",
            "ROLLBACK TO handler",
            "/* so */ COMMIT",
            "-- so\nROLLBACK",
        ] {
            let data = json!({"statements": [statement]});
            let task = a.send(&b.url, "work", "statements", data).await;
            let error = a.error(&task).await;
            assert_eq!(text(&error, "error"), "failed", "{statement}");
            assert_eq!(b.database.count("counted").await, 0, "{statement}");
        }
    }

    async fn no_more_handlers_run_at_once_than_the_queue_allows(store) {
        let b = Peer::start_with(&store, "b", &[("FRESTQ_QUEUES__NARROW__CONCURRENCY", "3")]).await;
        let tasks: Vec<_> = (0..20)
            .map(|_| message(&url_of(9), "wait", json!({"gate": "go"})))
            .collect();
        let answers = join_all(tasks.iter().map(|task| b.deliver("narrow", task))).await;
        assert!(answers.iter().all(|answer| answer.status == 200));
        let running = "SELECT count(*) FROM tasks WHERE status = 5";
        until("three run", async || b.database.number(running).await == 3).await;
        // Other queues have slots of their own.
        let other = message(&url_of(9), "echo", json!(1));
        b.deliver("work", &other).await;
        b.output(text(&other, "task_id")).await;
        assert_eq!(b.database.number(running).await, 3);
        b.open("go");
        for task in &tasks {
            b.output(text(task, "task_id")).await;
        }
        let most = b.ask(b.http.get(b.view("/most_running"))).await.unwrap();
        assert_eq!(most.body, "3");
    }

    /// One slot, and every way in which a run may end.
    async fn a_run_frees_its_slot_however_it_ends(store) {
        let a = Peer::start(&store, "a").await;
        let mut b =
            Peer::start_with(&store, "b", &[("FRESTQ_QUEUES__WORK__CONCURRENCY", "1")]).await;
        let running = |task: &String| b.runs(task) == 1;
        let mut order =
            json!({"to": b.url, "queue": "work", "action": "wait", "data": {"gate": "later"}});
        order["expires_in_ms"] = json!(1000);
        let expires = a.order(&order).await;
        until("it runs", async || running(&expires)).await;
        let mut tasks = Vec::new();
        for (action, data) in [
            ("panic", json!("x")),
            ("fail", json!("x")),
            ("typed", json!("x")),
            ("limited", json!({"gate": "never"})),
            ("statements", json!({"statements": ["nonsense"]})),
            ("flaky", json!({"fails": 1})),
            ("big", json!(10)),
            ("once", json!({"gate": "later"})),
        ] {
            tasks.push(a.send(&b.url, "work", action, data).await);
        }
        b.reaches(&expires, "expired").await;
        // The handler goes on, so nothing else runs: the slot is its own until it returns.
        assert!(tasks.iter().all(|task| b.runs(task) == 0));
        b.open("later");
        for task in &tasks {
            until("it has ended", async || {
                ["finished", "error"].contains(&text(&a.task(task).await, "status"))
            })
            .await;
        }
        assert_eq!(a.call(&b.url, "work", "echo", json!(1)).await["output"], 1);
        b.stop().await;
    }

    async fn a_peers_own_task_runs_here_even_if_its_action_is_for_nobody_else(store) {
        let a = Peer::start(&store, "a").await;
        let done = a.call(&a.url, "work", "private", json!(null)).await;
        assert_eq!(done["output"], "ours");
        assert_eq!(a.database.count("outbox").await, 0);
    }

    /// Larger than what the sender's peer takes in: its task must end all the same.
    async fn an_output_too_large_for_the_sender_ends_its_task_in_error(store) {
        let a = Peer::start_with(&store, "a", &[("FRESTQ_BODY_LIMIT", "100000")]).await;
        let b = Peer::start(&store, "b").await;
        let fits = a.send(&b.url, "work", "big", json!(90_000)).await;
        let task = a.send(&b.url, "work", "big", json!(110_000)).await;
        assert_eq!(a.output(&fits).await, "x".repeat(90_000));
        let error = a.error(&task).await;
        assert!(text(&error, "message").contains("413"), "{error}");
        b.output(&task).await;
    }

    /// A sender that takes nothing at all is told twice, and that is it.
    async fn an_update_that_is_refused_is_replaced_once(store) {
        let b = Peer::start(&store, "b").await;
        let a = Fake::answering(|_, _| Reply::status(400)).await;
        for n in 1..=3 {
            let task = message(&a.url, "echo", json!(n));
            assert_eq!(b.deliver("work", &task).await.status, 200);
            let id = text(&task, "task_id");
            let seen = a.sees(2 * n).await;
            assert_eq!(seen.len(), 2 * n);
            assert!(seen[2 * n - 2..].iter().all(|seen| seen.carries(id)));
            assert_eq!(seen[2 * n - 2].json()["data"]["output_data"], n);
            let instead = &seen[2 * n - 1].json()["data"];
            assert_eq!(instead["status"], "error");
            assert_eq!(instead["output_data"]["error"], "undeliverable");
            assert_eq!(b.output(id).await, n);
        }
    }
}
