//! Dates go by the clock that a peer was given, which here nobody moves but the test.

use std::{sync::Arc, time::Duration};

use super::app::App;
use crate::{
    api::prelude::*,
    model::{Status, TaskId},
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

async fn becomes(peer: &Frestq, id: &TaskId, wanted: Status) {
    let looks = async {
        while status(peer, id).await != wanted {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(30), looks).await;
    let is = status(peer, id).await;
    assert!(in_time.is_ok(), "{id} is {is}, not {wanted}");
}

/// Returns once everything that the peer had to do by now is done, as far as it does it in order.
async fn settle(peer: &Frestq) {
    let done = peer.send(task(peer, "at_once")).await.unwrap();
    done.output().await.unwrap();
}

async fn delays_retries_and_expirations_go_by_the_injected_clock(database: Arc<Database>) {
    database.store().await.close().await;
    let clock = Clock::manual("2030-01-01T00:00:00Z".parse().unwrap());
    let mut app = App::new();
    app.clock = clock.clone();
    app.config.database = Some(database.url.clone());
    app.config.bind = Some(([127, 0, 0, 1], 0).into());
    let running = app.start_bound().await.unwrap();
    let peer = running.handle();

    let delayed = peer.send(task(peer, "at_once").delay(HOUR)).await.unwrap();
    let again = peer.send(task(peer, "second_time")).await.unwrap();
    let decision = External::new().expires_in(2 * HOUR);
    let decision = peer.send(decision).await.unwrap();
    settle(peer).await;
    // It has failed once, and waits a second for the next run.
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
