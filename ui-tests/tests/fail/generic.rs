#[frestq::task(queue = "say_queue", action = "hello_world")]
async fn hello<T: serde::de::DeserializeOwned>(_input: T) -> anyhow::Result<()> {
    Ok(())
}

#[frestq::task(queue = "say_queue", action = "hello_impl")]
async fn hello_impl(_input: impl serde::de::DeserializeOwned) -> anyhow::Result<()> {
    Ok(())
}

fn main() {}
