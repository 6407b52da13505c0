use frestq::prelude::*;

struct Tally(u8);

#[derive(Default)]
struct Mixer;

#[frestq::task(queue = "mixnet", action = "mix")]
impl Handler for Mixer {
    type Input = u8;
    type Output = Tally;

    async fn execute(&self, _task: &Task, input: u8) -> anyhow::Result<Tally> {
        Ok(Tally(input))
    }
}

fn main() {}
