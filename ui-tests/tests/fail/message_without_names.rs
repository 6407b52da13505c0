#[frestq::message]
async fn note(_message: frestq::Message) -> anyhow::Result<()> {
    Ok(())
}

fn main() {}
