//! Peer B: runs two synchronized groups at the same time. In each, two goodbyes here and one on A
//! start together. B has three slots and three ports, so the groups compete for them.

use frestq::prelude::*;
use serde_json::Map;
use synchronized::{Goodbye, Hello, own_ports};

/// Collects the goodbyes of the first group.
#[derive(Serialize, Deserialize, Action)]
#[action(queue = "end_of_the_world", action = "testing.all_goodbyes_together", output = Vec<String>)]
struct AllGoodbyesTogether;

/// Passes the reservations of all subtasks to each subtask.
#[derive(Default)]
struct SynchronizedGoodbye;

#[frestq::director(name = "synchronized_goodbye")]
impl Director for SynchronizedGoodbye {
    async fn pre_execute(&self, group: &mut Group) -> anyhow::Result<()> {
        let mut reserved = Map::new();
        for subtask in group.subtasks() {
            reserved.insert(subtask.id().to_string(), subtask.reservation()?);
        }
        for subtask in group.subtasks_mut() {
            let input: Goodbye = subtask.input()?;
            subtask.set_input(Goodbye {
                reservation_data: reserved.clone(),
                ..input
            })?;
        }
        Ok(())
    }
}

#[frestq::task]
async fn hello_world(input: Hello, task: Task) -> anyhow::Result<String> {
    let a = std::env::var("PEER_A").unwrap_or_else(|_| "http://127.0.0.1:5000/api/queues".into());
    let goodbye = || Goodbye {
        username: input.username.repeat(2),
        reservation_data: Map::new(),
    };
    let group = || {
        Synchronized::<SynchronizedGoodbye>::new()
            .add(goodbye().to(task.here()))
            .add(goodbye().to(task.here()))
            .add(goodbye().to(&a))
    };
    task.add(Parallel::new().add(group()).add(group()));
    task.add(AllGoodbyesTogether.to(task.here()));
    Ok(format!("hello {}!", input.username))
}

#[frestq::task]
async fn all_goodbyes_together(_: AllGoodbyesTogether, task: Task) -> anyhow::Result<Vec<String>> {
    let groups = task.previous().await?.children().await?;
    let first = groups
        .iter()
        .next()
        .ok_or_else(|| anyhow::anyhow!("there are no groups"))?;
    let goodbyes: Vec<String> = first.children().await?.outputs()?;
    task.set_parent_output(&goodbyes);
    Ok(goodbyes)
}

frestq::main!(|app| {
    own_ports(6000..=6002);
    app.configure(|c| {
        c.port = 5001;
        c.queues
            .entry("goodbye_world".into())
            .or_default()
            .concurrency = 3;
    })
});
