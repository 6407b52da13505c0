#[derive(Default)]
struct Mixer;

#[frestq::task(queue = "mixnet", action = "mix")]
impl Mixer {
    const ROUNDS: u8 = 3;
}

#[frestq::task(queue = "mixnet", action = "mix")]
impl From<Mixer> for u8 {
    fn from(_: Mixer) -> u8 {
        Mixer::ROUNDS
    }
}

trait Handler {}

#[frestq::task(queue = "mixnet", action = "mix")]
impl Handler for Mixer {}

fn main() {}
