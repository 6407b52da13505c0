#[frestq::task(queue = "say_queue", action = "hello_world", local = true)]
async fn hello(input: u8) -> anyhow::Result<u8> {
    Ok(input)
}

fn main() {}
