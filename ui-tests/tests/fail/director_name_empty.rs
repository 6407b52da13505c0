use frestq::prelude::*;

#[derive(Default)]
struct Conductor;

#[frestq::director(name = "")]
impl Director for Conductor {}

fn main() {}
