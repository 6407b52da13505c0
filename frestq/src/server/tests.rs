//! Tests of a peer in one process: dates follow the injected clock, and hooks run in the order of
//! a peer's life.

mod traces;
mod transactions;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures_util::future::pending;

use super::{app::App, hooks::Hooks};
use crate::{
    api::prelude::*,
    config::load::Environment,
    model::{Status, TaskId, error::Error},
    runtime::clock::Clock,
    store::tests::harness::{Database, postgres, sqlite},
};

const HOUR: Duration = Duration::from_secs(3600);

#[frestq::task(queue = "clocked", action = "at_once")]
async fn at_once() -> anyhow::Result<()> {
    Ok(())
}

#[frestq::task(queue = "clocked", action = "second_time", retries = 1)]
async fn second_time(task: Task) -> anyhow::Result<u32> {
    anyhow::ensure!(task.attempt() > 1, "not the first time");
    Ok(task.attempt())
}

fn task(peer: &Frestq, action: &str) -> SimpleTask {
    SimpleTask::new(peer.url(), "clocked", action)
}

async fn status(peer: &Frestq, id: &TaskId) -> Status {
    peer.task(id).await.unwrap().status
}

async fn becomes(peer: &Frestq, id: &TaskId, expected: Status) {
    let looks = async {
        while status(peer, id).await != expected {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(30), looks).await;
    let is = status(peer, id).await;
    assert!(in_time.is_ok(), "{id} is {is}, not {expected}");
}

/// An application with this database and a clock that the test moves.
async fn app_on(database: &Database) -> (App, Clock) {
    database.store().await.close().await;
    let clock = Clock::manual("2030-01-01T00:00:00Z".parse().unwrap());
    let mut app = App::new();
    app.clock = clock.clone();
    app.config.database = Some(database.url.clone());
    app.config.bind = Some(([127, 0, 0, 1], 0).into());
    (app, clock)
}

/// Returns once the peer has done everything that is due, as far as it does so in order.
async fn settle(peer: &Frestq) {
    let done = peer.send(task(peer, "at_once")).await.unwrap();
    done.output().await.unwrap();
}

async fn delays_retries_and_expirations_go_by_the_injected_clock(database: Arc<Database>) {
    let (app, clock) = app_on(&database).await;
    let running = app.start_bound().await.unwrap();
    let peer = running.handle();

    let delayed = peer.send(task(peer, "at_once").delay(HOUR)).await.unwrap();
    let again = peer.send(task(peer, "second_time")).await.unwrap();
    let decision = External::new().expires_in(2 * HOUR);
    let decision = peer.send(decision).await.unwrap();
    settle(peer).await;
    // It has failed once, and waits for its next run for a second.
    let failed = async {
        while peer.task(again.id()).await.unwrap().failures == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    failed.await;
    assert_eq!(status(peer, again.id()).await, Status::Created);

    clock.advance(Duration::from_secs(1));
    becomes(peer, again.id(), Status::Finished).await;
    assert_eq!(status(peer, delayed.id()).await, Status::Created);

    clock.advance(HOUR - Duration::from_secs(2));
    settle(peer).await;
    assert_eq!(status(peer, delayed.id()).await, Status::Created);
    clock.advance(Duration::from_secs(1));
    becomes(peer, delayed.id(), Status::Finished).await;

    assert_eq!(status(peer, decision.id()).await, Status::Executing);
    clock.advance(HOUR);
    becomes(peer, decision.id(), Status::Expired).await;
    running.stop().await;
}

#[tokio::test]
async fn dates_go_by_the_injected_clock_on_sqlite() {
    sqlite(delays_retries_and_expirations_go_by_the_injected_clock).await;
}

#[tokio::test]
async fn dates_go_by_the_injected_clock_on_postgres() {
    postgres(delays_retries_and_expirations_go_by_the_injected_clock).await;
}

async fn a_background_loop_starts_again_after_an_error_or_a_panic(database: Arc<Database>) {
    let (app, clock) = app_on(&database).await;
    let (starts, dropped) = (Arc::new(AtomicU32::new(0)), Arc::new(()));
    let (count, held) = (starts.clone(), Arc::downgrade(&dropped));
    let app = app.background("flaky", move |_| {
        let start = count.fetch_add(1, Ordering::SeqCst);
        let dropped = dropped.clone();
        async move {
            assert!(start != 0, "the first time");
            anyhow::ensure!(start != 1, "the second time");
            pending::<()>().await;
            drop(dropped);
            Ok(())
        }
    });
    let running = app.start_bound().await.unwrap();
    let starts_again = async |times| {
        let looks = async {
            while starts.load(Ordering::SeqCst) < times {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let in_time = tokio::time::timeout(Duration::from_secs(30), looks).await;
        assert!(in_time.is_ok(), "it has not started {times} times");
    };
    starts_again(1).await;
    // The loop may not wait yet, so a single step of the clock could be lost.
    for times in [2, 3] {
        while starts.load(Ordering::SeqCst) < times {
            clock.advance(Duration::from_secs(1));
            tokio::task::yield_now().await;
        }
        starts_again(times).await;
    }
    running.stop().await;
    assert_eq!(starts.load(Ordering::SeqCst), 3);
    assert_eq!(held.strong_count(), 0, "the loop has outlived its peer");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_background_loop_starts_again_and_ends_with_its_peer() {
    sqlite(a_background_loop_starts_again_after_an_error_or_a_panic).await;
}

async fn hooks_of_the_start_come_before_all_else(database: Arc<Database>) {
    let (app, _) = app_on(&database).await;
    let failing = app
        .on_start(async |peer| {
            // The database is open, and no handler runs yet.
            let sent = peer.send(task(&peer, "at_once")).await?;
            anyhow::ensure!(sent.status().await? == Status::Created);
            anyhow::bail!("not today")
        })
        .on_start(async |_| panic!("a hook after one that failed"))
        .background("never", async |_| panic!("the start has failed"));
    let error = failing.start_bound().await.unwrap_err();
    assert!(matches!(error, Error::Hook(_)), "{error:?}");

    let (app, _) = app_on(&database).await;
    let error = app
        .on_start(async |_| panic!("at the start"))
        .start_bound()
        .await
        .unwrap_err();
    let Error::Hook(why) = error else {
        panic!("{error:?}");
    };
    assert!(why.to_string().contains("at the start"), "{why}");

    // The database was closed, and the sent task is in it.
    let (app, _) = app_on(&database).await;
    let running = app.start_bound().await.unwrap();
    settle(running.handle()).await;
    running.stop().await;
}

#[tokio::test]
async fn a_hook_that_fails_stops_the_start() {
    sqlite(hooks_of_the_start_come_before_all_else).await;
}

#[frestq::task(queue = "hooked", action = "last")]
async fn last(task: Task) -> anyhow::Result<()> {
    // No `State<Said>`, which other applications of this binary don't have.
    let said = task.peer().state::<Said>().unwrap();
    said.begun.notify_one();
    said.go_on.notified().await;
    said.words.lock().unwrap().push("handler");
    Ok(())
}

/// The lines that were recorded, and the signal that lets the handler go on.
#[derive(Clone, Default)]
struct Said {
    words: Arc<Mutex<Vec<&'static str>>>,
    begun: Arc<tokio::sync::Notify>,
    go_on: Arc<tokio::sync::Notify>,
}

async fn hooks_of_the_shutdown_come_after_the_last_handler(database: Arc<Database>) {
    let (app, _) = app_on(&database).await;
    let said = Said::default();
    let words = said.words.clone();
    let app = app
        .state(said.clone())
        .on_shutdown(async |_| panic!("which keeps no other from running"))
        .on_shutdown(async move |peer| {
            let sent = peer.send(task(&peer, "at_once")).await?;
            peer.task(sent.id()).await?;
            words.lock().unwrap().push("hook");
            Ok(())
        });
    let running = app.start_bound().await.unwrap();
    let peer = running.handle();
    let runs = SimpleTask::new(peer.url(), "hooked", "last");
    peer.send(runs).await.unwrap();
    said.begun.notified().await;
    let stop = running.stop();
    let release = async {
        tokio::task::yield_now().await;
        said.go_on.notify_one();
    };
    tokio::join!(stop, release);
    assert_eq!(*said.words.lock().unwrap(), ["handler", "hook"]);
}

#[tokio::test]
async fn a_hook_of_the_shutdown_has_the_database() {
    sqlite(hooks_of_the_shutdown_come_after_the_last_handler).await;
}

async fn a_hook_that_blocks_its_thread_is_given_up(database: Arc<Database>) {
    let (app, _) = app_on(&database).await;
    let running = app.start_bound().await.unwrap();
    let (release, blocked) = std::sync::mpsc::channel::<()>();
    let mut hooks = Hooks::default();
    hooks.add_on_shutdown(async move |_| {
        let _ = blocked.recv();
        Ok(())
    });
    let threads = running.worker.threads();
    hooks
        .shut_down(running.handle(), threads, Duration::from_millis(1))
        .await;
    running.stop().await;
    drop(release);
}

#[tokio::test]
async fn a_hook_of_the_shutdown_does_not_block_the_stop() {
    sqlite(a_hook_that_blocks_its_thread_is_given_up).await;
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Greeting {
    greeting: String,
    copies: u32,
}

#[frestq::task(queue = "configured", action = "greet")]
async fn greet(task: Task) -> anyhow::Result<(Greeting, Greeting)> {
    // The source of `State<T>`; other applications of this binary have no settings.
    let state = task.peer().state::<Greeting>().unwrap();
    let shared = task.peer().state::<Arc<Greeting>>().unwrap();
    Ok((state, Greeting::clone(&shared)))
}

async fn handlers_have_the_settings(database: Arc<Database>) {
    let (app, _) = app_on(&database).await;
    let mut app = app.settings_value(Greeting {
        greeting: "ahoy".into(),
        copies: 2,
    });
    let environment = Environment {
        variables: vec![("FRESTQ_APP__COPIES".into(), "3".into())],
        directory: std::env::temp_dir().join("frestq-server-nowhere"),
        flags: Vec::new(),
    };
    let loaded = app.load(&environment).unwrap();
    app.adopt(loaded).unwrap();
    let expected = Greeting {
        greeting: "ahoy".into(),
        copies: 3,
    };
    let running = app.start_bound().await.unwrap();
    let peer = running.handle();
    assert_eq!(*peer.settings::<Greeting>(), expected);
    let task = SimpleTask::new(peer.url(), "configured", "greet");
    let output = peer.send(task).await.unwrap().output().await.unwrap();
    let output: (Greeting, Greeting) = serde_json::from_value(output).unwrap();
    assert_eq!(output, (expected.clone(), expected));
    running.stop().await;
}

#[tokio::test]
async fn settings_reach_the_peer_and_its_handlers() {
    sqlite(handlers_have_the_settings).await;
}
