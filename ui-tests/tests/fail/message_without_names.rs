#[frestq::message]
async fn note(message: frestq::Message) -> anyhow::Result<()> {
    Ok(())
}

fn main() {}
