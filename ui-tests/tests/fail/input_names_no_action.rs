use frestq::prelude::*;

#[derive(Serialize, Deserialize)]
struct Hello {}

#[frestq::task]
async fn hello(_input: Hello) -> anyhow::Result<()> {
    Ok(())
}

#[frestq::task(local)]
async fn tick(_task: Task) -> anyhow::Result<()> {
    Ok(())
}

fn main() {}
