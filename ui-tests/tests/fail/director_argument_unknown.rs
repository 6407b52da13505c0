use frestq::prelude::*;

#[derive(Default)]
struct Conductor;

#[frestq::director(queue = "orchestra")]
impl Director for Conductor {}

fn main() {}
