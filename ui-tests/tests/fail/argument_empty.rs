#[frestq::task(queue = "", action = " ")]
async fn hello(input: u8) -> anyhow::Result<u8> {
    Ok(input)
}

fn main() {}
