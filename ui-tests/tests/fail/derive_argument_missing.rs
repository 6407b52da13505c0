use frestq::prelude::*;

#[derive(Serialize, Deserialize, Action)]
#[action(queue = "say_queue", output = String)]
struct Hello {}

#[derive(Serialize, Deserialize, Action)]
#[action]
struct Goodbye {}

#[derive(Serialize, Deserialize, Action)]
#[action = "say_queue/hello"]
struct Assigned {}

fn main() {}
