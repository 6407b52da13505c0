//! Peer A: sends tasks to B, and counts those that have come back.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use frestq::prelude::*;

#[derive(Serialize, Deserialize, Action)]
#[action(queue = "benchmark", action = "echo", output = u64)]
struct Echo(u64);

#[derive(Clone, Default)]
struct Finished(Arc<AtomicU64>);

fn peer_b() -> String {
    std::env::var("BENCHMARK_PEER_B").unwrap_or_else(|_| "http://127.0.0.1:5001/api/queues".into())
}

/// Sends `count` tasks. Responds when they are on A's disk.
async fn send(
    State(peer): State<Frestq>,
    Path((first, count)): Path<(u64, u64)>,
) -> frestq::Result<()> {
    let finished = peer.state::<Finished>().unwrap_or_default();
    let tasks = (first..first + count).map(async |number| {
        let task = peer.send(Echo(number).to(peer_b())).await?;
        let finished = finished.clone();
        tokio::spawn(async move {
            if task.output().await.is_ok_and(|echo| echo == number) {
                finished.0.fetch_add(1, Ordering::Relaxed);
            }
        });
        Ok(())
    });
    futures_util::future::try_join_all(tasks).await.map(drop)
}

/// Sends one task. Responds when its output is back.
async fn round_trip(State(peer): State<Frestq>, Path(number): Path<u64>) -> frestq::Result<String> {
    Ok(peer
        .send(Echo(number).to(peer_b()))
        .await?
        .output()
        .await?
        .to_string())
}

async fn finished(State(peer): State<Frestq>) -> String {
    peer.state::<Finished>()
        .unwrap_or_default()
        .0
        .load(Ordering::Relaxed)
        .to_string()
}

/// Does nothing: shows what an HTTP request costs by itself.
async fn nothing() {}

frestq::main!(|app| app
    .state(Finished::default())
    .route("/send/{first}/{count}", post(send))
    .route("/round-trip/{number}", post(round_trip))
    .route("/finished", post(finished))
    .route("/nothing", post(nothing)));
