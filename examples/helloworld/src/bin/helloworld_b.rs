//! Peer B: says hello, slowly.

use std::time::Duration;

use frestq::prelude::*;

#[derive(Deserialize)]
struct Hello {
    username: String,
}

#[frestq::task(queue = "say_queue", action = "hello_world")]
async fn hello_world(input: Hello) -> anyhow::Result<String> {
    tokio::time::sleep(pace()?).await;
    Ok(format!("hello {}!", input.username))
}

/// How long the handler works: 5 s, as in the original, unless `DEMO_SLEEP_SECONDS` is set.
fn pace() -> anyhow::Result<Duration> {
    match std::env::var("DEMO_SLEEP_SECONDS") {
        Ok(seconds) => Ok(Duration::try_from_secs_f64(seconds.parse()?)?),
        Err(_) => Ok(Duration::from_secs(5)),
    }
}

frestq::main!(|app| app.configure(|c| c.port = 5001));
