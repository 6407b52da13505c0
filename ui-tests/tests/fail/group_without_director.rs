use frestq::prelude::*;

#[derive(Default)]
struct Conductor;

fn main() {
    let _ = Synchronized::<Conductor>::new();
}
