//! Every form of a handler and every argument of its attribute.

#![forbid(unsafe_code)]
#![deny(warnings)]

use frestq::prelude::*;

#[derive(Deserialize)]
struct Hello {
    username: String,
}

/// An extractor of the user's own.
struct Sender(String);

impl FromTask for Sender {
    fn from_task(task: &Task) -> frestq::Result<Self> {
        Ok(Sender(task.sender().to_string()))
    }
}

/// Both an extractor and deserializable.
#[derive(Deserialize)]
struct Both;

impl FromTask for Both {
    fn from_task(_task: &Task) -> frestq::Result<Self> {
        Ok(Both)
    }
}

type Answer<T> = std::result::Result<T, TaskError>;

#[frestq::task(queue = "say_queue", action = "hello_world")]
async fn hello_world(input: Hello) -> anyhow::Result<String> {
    Ok(format!("hello {}!", input.username))
}

#[frestq::task(queue = "say_queue", action = "destructured", local)]
async fn destructured(
    Hello { mut username }: Hello,
    Sender(sender): Sender,
    State(number): State<u8>,
    _: Task,
) -> Answer<String> {
    username.push_str(&sender);
    Ok(format!("{username}{number}"))
}

#[frestq::task(
    queue = "say_queue",
    action = "no_input",
    retries = 3,
    max_attempts = 5,
    timeout = "500ms"
)]
async fn no_input(task: Task) -> frestq::Result<String> {
    Ok(task.id().to_string())
}

#[frestq::task(queue = "say_queue", action = "own_extractor_first", at_most_once)]
async fn own_extractor_first(sender: Sender, peer: State<Frestq>) -> anyhow::Result<()> {
    let _ = (sender, peer.url());
    Ok(())
}

#[frestq::task(queue = "say_queue", action = "an_extractor_before_an_input")]
async fn an_extractor_before_an_input(_: Both) -> anyhow::Result<()> {
    Ok(())
}

#[frestq::task(queue = "say_queue", action = "no_arguments")]
pub(crate) async fn no_arguments() -> std::result::Result<impl Serialize, std::io::Error> {
    Ok(1)
}

#[frestq::task(queue = "say_queue", action = "plain_types")]
async fn plain_types(numbers: Vec<(u8, String)>, _: Task) -> anyhow::Result<usize> {
    Ok(numbers.len())
}

#[frestq::message(queue = "audit", action = "note")]
async fn note(message: Message, task: Task, State(_): State<u8>) -> anyhow::Result<()> {
    println!("{} {}", message.id, task.id());
    Ok(())
}

fn main() {
    #[frestq::task(queue = "say_queue", action = "in_a_function")]
    async fn in_a_function(input: u8) -> anyhow::Result<u8> {
        Ok(input)
    }
}
