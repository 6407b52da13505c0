use frestq::prelude::*;

#[derive(Deserialize)]
struct Hello {
    username: String,
}

#[frestq::task(queue = "say_queue", action = "hello_world")]
async fn hello(_task: Task, input: Hello) -> anyhow::Result<String> {
    Ok(input.username)
}

fn main() {}
