#[frestq::task(queue = "say/queue", action = "hello/world")]
async fn hello(input: u8) -> anyhow::Result<u8> {
    Ok(input)
}

fn main() {}
