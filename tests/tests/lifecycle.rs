//! Starting, stopping, starting again.

use serde_json::json;

use crate::harness::{Peer, Store, free_port, message, text, until, url_of};

/// What the binary said, and that it failed.
#[track_caller]
fn complaint(output: &std::process::Output) -> String {
    assert!(!output.status.success());
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!words.contains("panicked"), "{words}");
    words
}

on_each_store! {
    async fn sigterm_lets_handlers_end_and_delivers_their_results(store) {
        let (a, mut b) = (
            Peer::start(&store, "a").await,
            Peer::start(&store, "b").await,
        );
        let task = a.send(&b.url, "work", "wait", json!({"gate": "go"})).await;
        b.started(&task, 1).await;
        a.reaches(&task, "sent").await;
        b.terminate();
        until("B takes nothing in any more", async || {
            b.ask(b.http.get(b.view("/ready"))).await.is_err()
        })
        .await;
        assert!(b.is_running());
        assert_eq!(a.task(&task).await["status"], "sent");
        b.open("go");
        let status = b.ended_process().await;
        assert_eq!(status.code(), Some(0));
        // B is gone, so this came before its end.
        assert_eq!(a.output(&task).await, 1);
    }

    async fn a_handler_that_outlasts_the_shutdown_runs_again_after_the_next_start(store) {
        let (a, mut b) = (Peer::start(&store, "a").await, Peer::new(&store, "b").await);
        b.set("FRESTQ_SHUTDOWN_TIMEOUT", "300ms");
        b.createdb();
        b.run().await;
        let task = a.send(&b.url, "work", "wait", json!({"gate": "go"})).await;
        b.started(&task, 1).await;
        b.stop().await;
        b.run().await;
        b.started(&task, 2).await;
        b.open("go");
        assert_eq!(a.output(&task).await, 2);
    }

    /// Its sender need not wait for the next start to learn of it.
    async fn a_handler_that_may_run_at_most_once_and_outlasts_the_shutdown_ends_in_error(store) {
        let (a, mut b) = (
            Peer::start(&store, "a").await,
            Peer::new(&store, "b").await,
        );
        b.set("FRESTQ_SHUTDOWN_TIMEOUT", "300ms");
        b.createdb();
        b.run().await;
        let task = a
            .send(&b.url, "work", "once", json!({"gate": "never"}))
            .await;
        b.started(&task, 1).await;
        a.reaches(&task, "sent").await;
        b.stop().await;
        assert_eq!(text(&a.error(&task).await, "error"), "interrupted");
        assert_eq!(b.runs(&task), 1);
    }

    async fn a_handler_that_blocks_its_thread_does_not_hold_up_the_shutdown(store) {
        let mut b = Peer::new(&store, "b").await;
        b.set("FRESTQ_SHUTDOWN_TIMEOUT", "300ms");
        b.createdb();
        b.run().await;
        let task = message(&url_of(free_port()), "block", json!({"gate": "never"}));
        b.deliver("blocking", &task).await;
        b.started(text(&task, "task_id"), 1).await;
        b.stop().await;
    }

    async fn a_client_that_never_ends_its_request_does_not_hold_up_the_shutdown(store) {
        use std::io::Write as _;
        let mut b = Peer::start(&store, "b").await;
        let mut idle = std::net::TcpStream::connect(("127.0.0.1", b.port)).unwrap();
        let mut half = std::net::TcpStream::connect(("127.0.0.1", b.port)).unwrap();
        half.write_all(
            b"POST /api/queues/work/ HTTP/1.1\r\nHost: b\r\nContent-Length: 100\r\n\r\n{",
        )
        .unwrap();
        idle.write_all(b"GET /rea").unwrap();
        assert_eq!(b.call(&b.url, "work", "echo", json!(1)).await["output"], 1);
        b.stop().await;
        drop((idle, half));
    }

    async fn an_interrupted_start_and_stop_loses_nothing_that_waits(store) {
        let (mut a, mut b) = (Peer::start(&store, "a").await, Peer::new(&store, "b").await);
        b.createdb();
        let mut tasks = Vec::new();
        for n in 0..20 {
            tasks.push(a.send(&b.url, "work", "echo", json!(n)).await);
        }
        a.stop().await;
        a.run().await;
        a.kill();
        a.run().await;
        b.run().await;
        for (n, task) in tasks.iter().enumerate() {
            assert_eq!(a.output(task).await, n);
        }
    }

    async fn createdb_may_be_repeated_and_keeps_what_is_there(store) {
        let mut a = Peer::start(&store, "a").await;
        let task = a.send(&a.url, "work", "echo", json!("kept")).await;
        let done = a.reaches(&task, "finished").await;
        a.stop().await;
        a.createdb();
        a.createdb();
        a.run().await;
        assert_eq!(a.task(&task).await, done);
    }

    async fn a_database_without_tables_is_refused_with_the_flag_that_makes_them(store) {
        let a = Peer::new(&store, "a").await;
        let words = complaint(&a.cli(&[]));
        assert!(words.contains("--createdb"), "{words}");
        if let Store::Sqlite = store {
            assert!(words.contains("does not exist"), "{words}");
            assert!(!std::fs::exists(a.database.url().replace("sqlite:", "")).unwrap());
        }
    }

    async fn a_port_that_is_taken_is_refused_by_its_name(store) {
        let mut a = Peer::new(&store, "a").await;
        a.createdb();
        let listener = std::net::TcpListener::bind(("127.0.0.1", a.port)).unwrap();
        let words = complaint(&a.cli(&[]));
        assert!(
            words.contains(&a.port.to_string()) && words.contains("bind"),
            "{words}"
        );
        drop(listener);
        a.run().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_on_the_same_sqlite_file_is_refused() {
    let mut a = Peer::start(&Store::Sqlite, "a").await;
    let mut second = a.second("a2");
    let words = complaint(&second.cli(&[]));
    assert!(words.contains("another process serves it"), "{words}");
    // The first one is none the worse for it, and what it held is free after its end.
    assert_eq!(a.call(&a.url, "work", "echo", json!(1)).await["output"], 1);
    a.kill();
    second.run().await;
}
