//! Expansions lean on nothing that the user's module happens to see.

#![no_implicit_prelude]

#[derive(::serde::Serialize, ::serde::Deserialize, ::frestq::Action)]
#[action(queue = "say_queue", action = "hello_world")]
struct Hello {}

#[::frestq::task(timeout = "1m", local, retries = 1, max_attempts = 2)]
async fn hello(_input: Hello, _task: ::frestq::Task) -> ::anyhow::Result<::serde_json::Value> {
    ::anyhow::Result::Ok(::serde_json::Value::Null)
}

#[::frestq::message(queue = "audit", action = "note")]
async fn note(_message: ::frestq::Message) -> ::anyhow::Result<()> {
    ::anyhow::Result::Ok(())
}

#[allow(dead_code)]
mod peer {
    ::frestq::main!();
}

fn main() {}
