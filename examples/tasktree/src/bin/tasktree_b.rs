//! Peer B: adds two goodbyes that run in parallel, one here and one on A. Then it collects both.

use frestq::prelude::*;
use tasktree::{Goodbye, Hello};

/// Collects the goodbyes of the group before it.
#[derive(Serialize, Deserialize, Action)]
#[action(queue = "hello_world", action = "testing.all_goodbyes_together", output = Vec<String>)]
struct AllGoodbyesTogether;

#[frestq::task]
async fn hello_world(input: Hello, task: Task) -> anyhow::Result<String> {
    let a = std::env::var("PEER_A").unwrap_or_else(|_| "http://127.0.0.1:5000/api/queues".into());
    let goodbye = |times| Goodbye {
        username: input.username.repeat(times),
    };
    task.add(
        Parallel::new()
            .add(goodbye(2).to(task.here()))
            .add(goodbye(3).to(a)),
    );
    task.add(AllGoodbyesTogether.to(task.here()));
    Ok(format!("hello {}!", input.username))
}

#[frestq::task]
async fn all_goodbyes_together(_: AllGoodbyesTogether, task: Task) -> anyhow::Result<Vec<String>> {
    Ok(task.previous().await?.children().await?.outputs()?)
}

frestq::main!(|app| app.configure(|c| c.port = 5001));
