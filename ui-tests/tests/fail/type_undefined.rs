#[frestq::task(queue = "say_queue", action = "hello_world")]
async fn hello(_input: Hello) -> anyhow::Result<u8> {
    Ok(1)
}

fn main() {}
