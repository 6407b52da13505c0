use frestq::prelude::*;

#[derive(Serialize, Deserialize, Action)]
#[action(queue = "say_queue", action = "hello_world", output = String)]
struct Hello {
    username: String,
}

#[frestq::task]
async fn hello(input: Hello) -> anyhow::Result<usize> {
    Ok(input.username.len())
}

fn main() {}
