#[frestq::task("say_queue", "hello_world")]
async fn hello(input: u8) -> anyhow::Result<u8> {
    Ok(input)
}

fn main() {}
