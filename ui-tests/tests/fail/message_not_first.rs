use frestq::Task;

#[frestq::message(queue = "audit", action = "note")]
async fn note(_task: Task, message: Message) -> anyhow::Result<()> {
    Ok(())
}

#[frestq::message(queue = "audit", action = "nothing")]
async fn nothing() -> anyhow::Result<()> {
    Ok(())
}

fn main() {}
