#[frestq::task(queue = "say_queue", action = "hello_world")]
async fn hello(input: u8) -> String {
    input.to_string()
}

#[frestq::task(queue = "say_queue", action = "goodbye")]
async fn goodbye() -> Option<u8> {
    None
}

fn main() {}
