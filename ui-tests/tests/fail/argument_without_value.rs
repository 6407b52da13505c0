#[frestq::task(queue, action = , timeout("30s"))]
async fn hello(input: u8) -> anyhow::Result<u8> {
    Ok(input)
}

fn main() {}
