use frestq::prelude::*;

#[derive(Default)]
struct Conductor<T>(T);

#[frestq::director(name = "conductor")]
impl<T: Send + Sync + 'static> Director for Conductor<T> {}

fn main() {}
