//! The derive, and handlers that take everything from it.

#![deny(warnings)]

use frestq::prelude::*;

#[derive(Serialize, Deserialize, Action)]
#[action(queue = "say_queue", action = "hello_world", output = std::collections::HashMap<String, u8>)]
struct Hello {
    username: String,
}

#[frestq::task]
async fn hello(input: Hello) -> anyhow::Result<std::collections::HashMap<String, u8>> {
    Ok([(input.username, 1)].into())
}

/// Any JSON comes back.
#[derive(Serialize, Deserialize, Action)]
#[action(queue = "say_queue")]
#[action(action = "anything")]
enum Anything {
    One,
    Two(u8),
}

#[frestq::task(retries = 1, local)]
async fn anything(_: Anything) -> frestq::Result<serde_json::Value> {
    Ok(serde_json::Value::Null)
}

/// For a sender, which need not own what it sends.
#[derive(Serialize, Action)]
#[action(queue = "say_queue", action = "borrowed", output = ())]
struct Borrowed<'a, T> {
    text: &'a str,
    value: T,
}

/// Handled under another name than its own, where its output counts for nothing.
#[frestq::task(queue = "other", action = "hello_world")]
async fn renamed(input: Hello) -> anyhow::Result<String> {
    Ok(input.username)
}

fn main() {
    let task: frestq::SimpleTask<()> = Borrowed {
        text: "a",
        value: 1,
    }
    .to("http://127.0.0.1:5001/api/queues");
    drop(task);
    drop([Anything::One, Anything::Two(2)]);
    assert_eq!(Hello::ACTION, "hello_world");
}
