//! `cargo run --release -p benchmark`: measures round trips between two peers, and gives them as
//! ratios to the raw figures of this machine from the same run. The load driver, A and B are
//! three processes. SQLite syncs at every commit.

mod load;
mod peers;
mod raw;
mod tls;

use std::time::{Duration, Instant};

use anyhow::Context;
use peers::{Mode, Peers};

/// How many tasks are kept in flight.
const IN_FLIGHT: u64 = 10_000;

/// How many connections post them.
const POSTERS: usize = 256;

/// The most tasks in one post. Results come back faster than the connections could post one by
/// one.
const AT_ONCE: u64 = 64;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let seconds = std::env::args()
        .nth(1)
        .map_or(Ok(15), |text| text.parse())
        .context("usage: benchmark [SECONDS]")?;
    let duration = Duration::from_secs(seconds);
    peers::build()?;
    let folder = peers::scratch()?;
    println!("raw figures of this machine");
    let commits = raw::single_commits(&folder).await?;
    println!(
        "  single commits     {commits:>9.0} /s   ({:.2} ms each)",
        1000.0 / commits
    );
    let rows = raw::batched_rows(&folder).await?;
    println!("  rows in batches    {rows:>9.0} /s");
    for mode in Mode::ALL {
        let peers = Peers::start(&folder, mode).await?;
        if mode == Mode::Batch {
            let requests = http_requests(&peers, Duration::from_secs(3)).await?;
            println!("  HTTP requests      {requests:>9.0} /s   ({POSTERS} connections)");
            let [request, _] = idle(&peers, |_| "/nothing".into()).await?;
            println!("  idle HTTP request  {request:>9.3} ms");
            // Four commits one after the other, and three requests. Half of each request is on
            // the path.
            let least = 4.0 * 1000.0 / commits + 1.5 * request;
            println!(
                "  least round trip   {least:>9.2} ms   = {:.1} single commits",
                least / 1000.0 * commits
            );
        }
        println!("{mode}");
        let [p50, p99] = idle(&peers, |number| format!("/round-trip/{number}")).await?;
        println!(
            "  idle p50           {p50:>9.2} ms   = {:.1} single commits",
            p50 / 1000.0 * commits
        );
        println!(
            "  idle p99           {p99:>9.2} ms   = {:.1} single commits",
            p99 / 1000.0 * commits
        );
        let rate = round_trips(&peers, duration).await?;
        println!(
            "  round trips        {rate:>9.0} /s   = {:.2} single commits each",
            commits / rate
        );
        let (a, b) = peers.stop().await?;
        println!("  memory at most     {a:>6.0} MiB (A), {b:.0} MiB (B)");
    }
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

/// Sends one request at a time. Returns p50 and p99 in milliseconds.
async fn idle(peers: &Peers, path: impl Fn(u64) -> String) -> anyhow::Result<[f64; 2]> {
    let mut latencies = Vec::new();
    // On one thread: switching threads would count as time of the peers.
    tokio::task::block_in_place(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()?;
        runtime.block_on(async {
            let mut connection = peers.connect().await?;
            for number in 0..1_600u64 {
                let start = Instant::now();
                connection.post(&path(number)).await?;
                // The first requests warm up connections and caches, and let the log reach its
                // size.
                if number >= 600 {
                    latencies.push(start.elapsed());
                }
            }
            anyhow::Ok(())
        })
    })?;
    latencies.sort_unstable();
    let at =
        |percent: usize| latencies[(latencies.len() - 1) * percent / 100].as_secs_f64() * 1000.0;
    Ok([at(50), at(99)])
}

async fn http_requests(peers: &Peers, duration: Duration) -> anyhow::Result<f64> {
    let start = Instant::now();
    let mut posters = tokio::task::JoinSet::new();
    for _ in 0..POSTERS {
        let mut connection = peers.connect().await?;
        posters.spawn(async move {
            let mut done = 0u64;
            while start.elapsed() < duration {
                connection.post("/nothing").await?;
                done += 1;
            }
            anyhow::Ok(done)
        });
    }
    let mut done = 0;
    while let Some(poster) = posters.join_next().await {
        done += poster??;
    }
    Ok(done as f64 / start.elapsed().as_secs_f64())
}

/// Keeps tasks in flight, and returns how many come back per second.
async fn round_trips(peers: &Peers, duration: Duration) -> anyhow::Result<f64> {
    let mut counter = peers.connect().await?;
    let mut finished =
        async || -> anyhow::Result<u64> { Ok(counter.post("/finished").await?.parse()?) };
    // Read before the first post, so that no early result is left out.
    let before = finished().await?;
    let window = load::Window::new(IN_FLIGHT);
    let mut posters = tokio::task::JoinSet::new();
    for poster in 0..POSTERS as u64 {
        let mut connection = peers.connect().await?;
        let window = window.clone();
        posters.spawn(async move {
            let mut number = poster << 32;
            loop {
                let count = window.enter(AT_ONCE).await;
                if count == 0 {
                    return anyhow::Ok(());
                }
                connection.post(&format!("/send/{number}/{count}")).await?;
                number += count;
            }
        });
    }
    // First the window fills and the peers settle.
    let warm = Instant::now() + duration / 5;
    let end = warm + duration;
    let mut from = None;
    let (rate, in_flight) = loop {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let now = finished().await? - before;
        window.finished(now);
        let instant = Instant::now();
        if from.is_none() && instant >= warm {
            from = Some((instant, now));
        }
        if let (Some((start, first)), true) = (from, instant >= end) {
            break (
                (now - first) as f64 / (instant - start).as_secs_f64(),
                window.posted() - now,
            );
        }
    };
    window.close();
    while let Some(poster) = posters.join_next().await {
        poster??;
    }
    println!("  in flight          {in_flight:>9}");
    let deadline = Instant::now() + Duration::from_secs(60);
    while finished().await? - before < window.posted() {
        anyhow::ensure!(
            Instant::now() < deadline,
            "{} tasks never came back",
            window.posted() - (finished().await? - before)
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(rate)
}
