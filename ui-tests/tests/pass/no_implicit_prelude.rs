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

#[derive(::std::default::Default)]
struct Mixer;

#[::frestq::task(queue = "mixnet", action = "mix", timeout = "1m")]
impl ::frestq::Handler for Mixer {
    type Input = Hello;
    type Output = ();

    async fn execute(&self, _task: &::frestq::Task, _input: Hello) -> ::anyhow::Result<()> {
        ::anyhow::Result::Ok(())
    }

    async fn handle_error(
        &self,
        _task: &::frestq::Task,
        _error: &::frestq::TaskError,
    ) -> ::frestq::Recovery<()> {
        ::frestq::Recovery::Propagate
    }
}

#[derive(::std::default::Default)]
struct Greeter;

#[::frestq::task]
impl ::frestq::Handler for Greeter {
    type Input = Again;
    type Output = ::serde_json::Value;

    async fn execute(
        &self,
        _task: &::frestq::Task,
        _input: Again,
    ) -> ::anyhow::Result<::serde_json::Value> {
        ::anyhow::Result::Ok(::serde_json::Value::Null)
    }
}

#[derive(::serde::Serialize, ::serde::Deserialize, ::frestq::Action)]
#[action(queue = "say_queue", action = "hello_again")]
struct Again {}

#[allow(dead_code)]
mod peer {
    ::frestq::main!();
}

fn main() {}
