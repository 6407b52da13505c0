#[frestq::task(queue = "say_queue", action = "hello_world")]
async fn hello(input: u8) -> Result<u8, String> {
    Err(input.to_string())
}

fn main() {}
