const QUEUE: &str = "say_queue";

#[frestq::task(queue = QUEUE, action = 3)]
async fn hello(input: u8) -> anyhow::Result<u8> {
    Ok(input)
}

fn main() {}
