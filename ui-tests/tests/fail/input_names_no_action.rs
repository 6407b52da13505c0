use frestq::prelude::*;

#[derive(Serialize, Deserialize)]
struct Hello {}

#[frestq::task]
async fn hello(input: Hello) -> anyhow::Result<()> {
    Ok(())
}

#[frestq::task(local)]
async fn tick(task: Task) -> anyhow::Result<()> {
    Ok(())
}

fn main() {}
