use frestq::prelude::*;

struct Pool;

#[frestq::task(queue = "say_queue", action = "first")]
async fn first(pool: State<Pool>) -> anyhow::Result<()> {
    Ok(())
}

#[frestq::task(queue = "say_queue", action = "second")]
async fn second(input: u8, State(pool): State<Pool>) -> anyhow::Result<()> {
    Ok(())
}

fn main() {}
