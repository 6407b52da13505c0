//! A task's trace goes where the task goes, and to all that is below it.

use std::{net::TcpListener, sync::Arc};

use crate::server::tests::App;
use crate::{
    api::prelude::*,
    server::RunningPeer,
    store::tests::harness::{Database, sqlite},
};

#[frestq::task(queue = "traced", action = "report")]
async fn report(task: Task) -> anyhow::Result<Option<String>> {
    Ok(task.trace().map(str::to_owned))
}

#[frestq::task(queue = "traced", action = "spread")]
async fn spread(other: String, task: Task) -> anyhow::Result<()> {
    let report = || SimpleTask::new(&other, "traced", "report");
    task.add(report());
    task.add(report().trace("its own"));
    task.add(Parallel::new().trace("the group's").add(report()));
    task.add(Synchronized::<()>::new().add(report()));
    Ok(())
}

/// A peer of its own, on a port that was free.
async fn start(database: &Database) -> RunningPeer {
    database.store().await.close().await;
    let mut app = App::new();
    app.config.database = Some(database.url.clone());
    let free = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    app.config.port = free.local_addr().unwrap().port();
    drop(free);
    app.start_bound().await.unwrap()
}

fn report_to(peer: &Frestq) -> SimpleTask {
    SimpleTask::new(peer.url(), "traced", "report")
}

async fn a_trace_travels(one: &Frestq, other: &Frestq) {
    // Whether the other one reads our extensions is known from its first answer on.
    let first = one.send(report_to(other)).await.unwrap();
    assert_eq!(first.output().await.unwrap(), serde_json::Value::Null);

    let traced = report_to(other).trace("request 7");
    let traced = one.send(traced).await.unwrap();
    assert_eq!(traced.output().await.unwrap(), "request 7");
    for peer in [one, other] {
        let record = peer.task(traced.id()).await.unwrap();
        assert_eq!(record.trace.as_deref(), Some("request 7"));
    }

    let spread = SimpleTask::new(one.url(), "traced", "spread");
    let spread = spread.data(other.url()).trace("request 8");
    let spread = one.send(spread).await.unwrap();
    spread.output().await.unwrap();
    let tree = one.services.store.tree(spread.id()).await.unwrap();
    let reports = tree.iter().filter(|task| task.action == "report");
    let mut seen: Vec<_> = reports.map(|task| task.output_data.get()).collect();
    seen.sort_unstable();
    let expected = [
        "\"its own\"",
        "\"request 8\"",
        "\"request 8\"",
        "\"the group's\"",
    ];
    assert_eq!(seen, expected);
}

async fn traces(database: Arc<Database>) {
    let second = Database::beside(&database, "other");
    let (one, other) = (start(&database).await, start(&second).await);
    a_trace_travels(&one.peer, &other.peer).await;
    one.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn a_trace_travels_with_its_task_and_to_its_subtasks() {
    sqlite(traces).await;
}

async fn limits(database: Arc<Database>) {
    let running = start(&database).await;
    let peer = running.handle();
    let longest = "x".repeat(512);
    let sent = peer.send(report_to(peer).trace(longest.clone())).await;
    assert_eq!(sent.unwrap().output().await.unwrap(), longest.as_str());
    for refused in ["é".repeat(257), "\0".to_owned()] {
        let error = peer.send(report_to(peer).trace(refused)).await.unwrap_err();
        assert!(error.to_string().contains("trace"), "{error}");
    }
    running.stop().await;
}

#[tokio::test]
async fn a_trace_that_is_too_long_is_refused_when_it_is_sent() {
    sqlite(limits).await;
}
