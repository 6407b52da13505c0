#[frestq::task(queue = "say_queue", action = "hello_world")]
async fn hello(_input: u8) {}

fn main() {}
