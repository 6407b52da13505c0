//! This `Cargo.toml` renames frestq to `queues`, so no expansion may contain `::frestq`.

use queues::{Action, FromTask, Handler, Recovery, Task, TaskError};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Action)]
#[action(queue = "say_queue", action = "hello_world", crate = queues)]
struct Hello {
    username: String,
}

#[queues::task(crate = queues)]
async fn hello(input: Hello, _task: Task) -> anyhow::Result<serde_json::Value> {
    Ok(input.username.into())
}

struct Sender(String);

impl FromTask for Sender {
    fn from_task(task: &Task) -> queues::Result<Self> {
        Ok(Sender(task.sender().to_string()))
    }
}

#[queues::task(queue = "say_queue", action = "sender", crate = "queues")]
async fn sender(Sender(sender): Sender) -> anyhow::Result<String> {
    Ok(sender)
}

#[queues::message(queue = "audit", action = "note", crate = ::queues)]
async fn note(message: queues::Message) -> anyhow::Result<()> {
    println!("{message:?}");
    Ok(())
}

#[derive(Serialize, Deserialize, Action)]
#[action(queue = "mixnet", action = "mix", output = String, crate = queues)]
struct Mix {}

#[derive(Default)]
struct Mixer;

#[queues::task(crate = queues)]
impl Handler for Mixer {
    type Input = Mix;
    type Output = String;

    async fn execute(&self, _task: &Task, _input: Mix) -> anyhow::Result<String> {
        Ok(String::new())
    }

    async fn handle_error(&self, _task: &Task, _error: &TaskError) -> Recovery<String> {
        Recovery::Propagate
    }
}

mod peer {
    queues::main!(|app| app.state(1_u8));

    #[test]
    fn the_binary_of_a_peer_builds() {
        let _: fn() -> std::process::ExitCode = main;
    }
}

#[test]
fn the_derive_names_the_action() {
    assert_eq!((Hello::QUEUE, Hello::ACTION), ("say_queue", "hello_world"));
}
