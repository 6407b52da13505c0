use frestq::prelude::*;

#[derive(Serialize, Deserialize, Action)]
struct Hello {}

fn main() {}
