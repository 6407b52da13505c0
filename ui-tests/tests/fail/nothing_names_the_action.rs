#[frestq::task]
async fn tick() -> anyhow::Result<()> {
    Ok(())
}

fn main() {}
