#[frestq::message(queue = "audit", action = "note", retries = 3)]
async fn note(_message: frestq::Message) -> anyhow::Result<()> {
    Ok(())
}

fn main() {}
