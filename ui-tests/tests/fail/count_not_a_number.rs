#[frestq::task(queue = "say_queue", action = "hello_world", retries = "3", max_attempts = -1)]
async fn hello(input: u8) -> anyhow::Result<u8> {
    Ok(input)
}

fn main() {}
