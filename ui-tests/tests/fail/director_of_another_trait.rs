use frestq::prelude::*;

#[derive(Default)]
struct Conductor;

#[frestq::director(name = "conductor")]
impl Clone for Conductor {
    fn clone(&self) -> Self {
        Conductor
    }
}

fn main() {}
