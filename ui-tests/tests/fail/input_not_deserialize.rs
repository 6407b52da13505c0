use frestq::prelude::*;

struct Hello {
    username: String,
}

#[frestq::task(queue = "say_queue", action = "hello_world")]
async fn hello(input: Hello) -> anyhow::Result<String> {
    Ok(input.username)
}

#[frestq::task(queue = "say_queue", action = "hello_all")]
async fn hello_all(input: Vec<Hello>, _task: Task) -> anyhow::Result<usize> {
    Ok(input.len())
}

fn main() {}
