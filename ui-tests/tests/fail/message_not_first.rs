use frestq::prelude::*;

#[frestq::message(queue = "audit", action = "note")]
async fn note(task: Task, message: Message) -> anyhow::Result<()> {
    Ok(())
}

#[frestq::message(queue = "audit", action = "nothing")]
async fn nothing() -> anyhow::Result<()> {
    Ok(())
}

fn main() {}
