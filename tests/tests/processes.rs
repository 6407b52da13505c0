//! Several processes that are one peer, on one Postgres database.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::{
    audit,
    harness::{Fake, Peer, Proxy, Store, eventually, message, text, until},
};

/// Two processes of one peer: the second one's address is only where it listens.
pub(crate) async fn pair(store: &Store, settings: &[(&str, &str)]) -> [Peer; 2] {
    let mut first = Peer::new(store, "b1").await;
    let root = first.url.clone();
    first.set("FRESTQ_ROOT_URL", &root);
    for (key, value) in settings {
        first.set(key, value);
    }
    first.createdb();
    let mut second = first.second("b2");
    first.run().await;
    second.run().await;
    [first, second]
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_share_the_work_and_run_nothing_twice() {
    let Some(store) = Store::postgres() else {
        return;
    };
    let a = Peer::start(&store, "a").await;
    let [first, second] = pair(&store, &[("FRESTQ_QUEUES__NARROW__CONCURRENCY", "2")]).await;
    let tasks =
        join_all((0..4).map(|_| a.send(&first.url, "narrow", "wait", json!({"gate": "go"}))));
    let tasks = tasks.await;
    // Two slots in each process: that all four run means that both take part.
    until("both processes run what they can", async || {
        tasks.iter().all(|task| first.runs(task) == 1)
    })
    .await;
    let owners = "SELECT DISTINCT 'owner', owner FROM tasks WHERE status = 5";
    assert_eq!(first.database.pairs(owners).await.len(), 2);
    first.open("go");
    for task in &tasks {
        a.output(task).await;
    }
    // Either process tells about either's tasks, and who waits in one hears of an end in the other.
    let ids: BTreeSet<_> = tasks.iter().collect();
    for task in ids {
        assert_eq!(first.task(task).await, second.task(task).await);
    }
    for n in 0..20 {
        let output = second.call(&first.url, "work", "echo", json!(n)).await;
        assert_eq!(output["output"], n);
    }
    drop((first, second));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_process_ran_is_taken_over_by_another() {
    let Some(store) = Store::postgres() else {
        return;
    };
    let a = Peer::start(&store, "a").await;
    let [mut first, second] = pair(&store, &[("FRESTQ_QUEUES__NARROW__CONCURRENCY", "1")]).await;
    let tasks = [
        a.send(&first.url, "narrow", "wait", json!({"gate": "go"}))
            .await,
        a.send(&first.url, "narrow", "wait", json!({"gate": "go"}))
            .await,
    ];
    for task in &tasks {
        first.started(task, 1).await;
    }
    // The first one listens at the peer's address, so A can't reach the peer; but the second one
    // reaches A.
    first.kill();
    first.open("go");
    for task in &tasks {
        a.output(task).await;
    }
    let runs: usize = tasks.iter().map(|task| second.runs(task)).sum();
    assert_eq!(runs, 3, "one of them ran twice, the other one once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_stops_hands_its_work_to_the_other_at_once() {
    let Some(store) = Store::postgres() else {
        return;
    };
    let a = Peer::start(&store, "a").await;
    let settings = [
        ("FRESTQ_QUEUES__NARROW__CONCURRENCY", "1"),
        ("FRESTQ_SHUTDOWN_TIMEOUT", "300ms"),
    ];
    let [mut first, mut second] = pair(&store, &settings).await;
    let task = a
        .send(&first.url, "narrow", "wait", json!({"gate": "go"}))
        .await;
    first.started(&task, 1).await;
    let owner = "SELECT 'name: ' || n.name, t.owner FROM tasks t JOIN nodes n ON n.id = t.owner";
    let owners = first.database.pairs(owner).await;
    let port = format!(":{}", first.port);
    let (stopping, staying) = if owners[0].0.ends_with(&port) {
        (&mut first, &mut second)
    } else {
        (&mut second, &mut first)
    };
    stopping.stop().await;
    staying.started(&task, 2).await;
    staying.open("go");
    a.output(&task).await;
}

/// As when the server restarts, or a firewall cuts what has been open for long.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_loses_its_connections_to_the_database_loses_nothing_else() {
    let Some(store) = Store::postgres() else {
        return;
    };
    let (a, b) = (
        Peer::start_with(&store, "a", &[audit::ON]).await,
        Peer::start_with(&store, "b", &[audit::ON]).await,
    );
    let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
               WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let mut tasks = Vec::new();
    for n in 0..300 {
        if n % 50 == 25 {
            a.database.number(cut).await;
            b.database.number(cut).await;
        }
        let order = json!({"to": b.url, "queue": "work", "action": "count", "data": {"n": n}});
        let id = eventually("A takes the task", async || {
            let answer = a.try_order(&order).await.unwrap();
            (answer.status == 200).then(|| text(&answer.json(), "id").to_owned())
        })
        .await;
        tasks.push(id);
    }
    for (n, task) in tasks.iter().enumerate() {
        assert_eq!(a.output(task).await, n * 2);
        let counted = format!("SELECT count(*) FROM counted WHERE task = '{task}'");
        assert_eq!(b.database.number(&counted).await, 1);
    }
    audit::sound(&a).await;
    audit::sound(&b).await;
}

/// The commit came through, and the connection broke before anybody knew.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_commit_did_is_carried_on_though_its_answer_was_lost() {
    let Some(store) = Store::postgres() else {
        return;
    };
    let (a, proxy) = (Fake::new().await, Proxy::new(&store).await);
    let mut b = Peer::new(&store, "b").await;
    let url = proxy.through(&b.database.url());
    b.set("FRESTQ_DATABASE", &url);
    b.set("FRESTQ_QUEUES__WORK__CONCURRENCY", "2");
    b.createdb();
    b.run().await;
    let deliver = async |task: &Value| {
        until("B takes the task", async || {
            b.deliver("work", task).await.status == 200
        })
        .await;
    };
    let settled = async || {
        until("B has nothing to do", async || {
            let pending = "SELECT count(*) FROM outbox WHERE state = 0";
            b.database.number(pending).await == 0
        })
        .await;
    };
    deliver(&message(&a.url, "echo", json!("known from now on"))).await;
    a.sees(1).await;
    // More often than there are slots, so that a slot that is lost is missed.
    for n in 1..=4 {
        // A message that was taken in, and its task claimed.
        settled().await;
        proxy.lose_next_commit();
        let task = message(&a.url, "count", json!({"n": n}));
        let id = text(&task, "task_id");
        deliver(&task).await;
        assert_eq!(b.output(id).await, n * 2);
        let update = a.sees_task(id).await.json();
        assert_eq!(update["data"]["output_data"], n * 2);
        assert_eq!(b.database.count("counted").await, n);

        // A completion, with the update that reports it.
        settled().await;
        let gate = format!("go-{n}");
        let task = message(&a.url, "wait", json!({"gate": gate}));
        let id = text(&task, "task_id");
        deliver(&task).await;
        b.started(id, 1).await;
        proxy.lose_next_commit();
        b.open(&gate);
        assert_eq!(b.output(id).await, 1);
        a.sees_task(id).await;

        // A task of its own, with the message that carries it.
        settled().await;
        proxy.lose_next_commit();
        let task = b.send(&a.url, "work", "echo", json!(n)).await;
        a.sees_task(&task).await;
        b.reaches(&task, "sent").await;
        settled().await;
        assert_eq!(proxy.lost(), 3 * usize::try_from(n).unwrap());
    }
    assert_eq!(a.seen().len(), 1 + 3 * 4, "something was sent twice");
}
