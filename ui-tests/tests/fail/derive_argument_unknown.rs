use frestq::prelude::*;

#[derive(Serialize, Deserialize, Action)]
#[action(queue = "say_queue", action = "hello_world", outptu = String)]
struct Hello {}

fn main() {}
