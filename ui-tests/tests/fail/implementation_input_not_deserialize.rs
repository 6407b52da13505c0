use frestq::prelude::*;

struct Ballots;

#[derive(Default)]
struct Mixer;

#[frestq::task(queue = "mixnet", action = "mix")]
impl Handler for Mixer {
    type Input = Ballots;
    type Output = ();

    async fn execute(&self, _task: &Task, input: Ballots) -> anyhow::Result<()> {
        drop(input);
        Ok(())
    }
}

fn main() {}
