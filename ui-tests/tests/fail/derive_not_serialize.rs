use frestq::prelude::*;

#[derive(Deserialize, Action)]
#[action(queue = "say_queue", action = "hello_world")]
struct Hello {}

fn main() {}
