use std::borrow::Cow;

use frestq::prelude::*;

#[derive(Deserialize)]
struct Hello {}

#[frestq::task(queue = "say_queue", action = "text")]
async fn text(_input: &str) -> anyhow::Result<()> {
    Ok(())
}

#[frestq::task(queue = "say_queue", action = "hello")]
async fn hello<'a>(_input: &'a Hello, _task: &Task) -> anyhow::Result<()> {
    Ok(())
}

#[frestq::task(queue = "say_queue", action = "nested")]
async fn nested(_input: Vec<Option<&str>>) -> anyhow::Result<()> {
    Ok(())
}

#[frestq::task(queue = "say_queue", action = "lifetime")]
async fn lifetime(_input: Cow<'_, str>) -> anyhow::Result<()> {
    Ok(())
}

fn main() {}
