#[frestq::task(que = "say_queue", action = "hello_world")]
async fn nearly(input: u8) -> anyhow::Result<u8> {
    Ok(input)
}

#[frestq::task(queue = "say_queue", action = "hello_world", priority = 3)]
async fn not_at_all(input: u8) -> anyhow::Result<u8> {
    Ok(input)
}

fn main() {}
