use frestq::prelude::*;

struct Pool;

#[frestq::task(queue = "say_queue", action = "first")]
async fn first(_pool: State<Pool>) -> anyhow::Result<()> {
    Ok(())
}

#[frestq::task(queue = "say_queue", action = "second")]
async fn second(_input: u8, State(_pool): State<Pool>) -> anyhow::Result<()> {
    Ok(())
}

fn main() {}
