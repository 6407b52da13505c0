#[frestq::task(queue = "say_queue", action = "hello_world")]
struct Hello;

#[frestq::task(queue = "say_queue", action = "hello_world")]
impl Hello {
    const GREETING: &'static str = "hello";
}

#[frestq::message(queue = "say_queue", action = "hello_world")]
pub static MESSAGE: &str = Hello::GREETING;

fn main() {}
