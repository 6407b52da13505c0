use std::rc::Rc;

#[frestq::task(queue = "say_queue", action = "hello_world")]
async fn hello(input: u8) -> anyhow::Result<u8> {
    let shared = Rc::new(input);
    pause().await;
    Ok(*shared)
}

async fn pause() {}

fn main() {}
