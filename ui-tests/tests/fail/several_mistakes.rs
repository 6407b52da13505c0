//! One build shows them all.

#[frestq::task(
    que = "say_queue",
    action = "",
    retries = "3",
    at_most_once,
    max_attempts = 2
)]
fn signature<T>(_input: &str) {}

struct Hello;

#[frestq::task(queue = "say queue", action = "types")]
async fn attribute_and_types(_input: Hello, _second: u8) -> String {
    String::new()
}

fn main() {}
