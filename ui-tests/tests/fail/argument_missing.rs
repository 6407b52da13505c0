#[frestq::task(queue = "say_queue")]
async fn no_action(input: u8) -> anyhow::Result<u8> {
    Ok(input)
}

#[frestq::task(action = "hello_world", retries = 3)]
async fn no_queue(input: u8) -> anyhow::Result<u8> {
    Ok(input)
}

fn main() {}
