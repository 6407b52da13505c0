#[frestq::task(
    queue = "say_queue",
    action = "hello_world",
    local,
    queue = "other",
    local
)]
async fn hello(input: u8) -> anyhow::Result<u8> {
    Ok(input)
}

fn main() {}
