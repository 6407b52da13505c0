use frestq::prelude::*;

#[derive(Default)]
struct Conductor;

#[frestq::director]
impl Director for Conductor {}

fn main() {}
