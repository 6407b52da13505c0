#[frestq::task(
    queue = "say_queue",
    action = "hello_world",
    at_most_once,
    retries = 3,
    max_attempts = 2
)]
async fn hello(input: u8) -> anyhow::Result<u8> {
    Ok(input)
}

fn main() {}
