use frestq::prelude::*;

struct Conductor(u8);

#[frestq::director(name = "conductor")]
impl Director for Conductor {}

fn main() {}
