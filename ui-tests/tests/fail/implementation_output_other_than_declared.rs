use frestq::prelude::*;

#[derive(Serialize, Deserialize, Action)]
#[action(queue = "mixnet", action = "mix", output = String)]
struct Ballots(u8);

#[derive(Default)]
struct Mixer;

#[frestq::task]
impl Handler for Mixer {
    type Input = Ballots;
    type Output = u8;

    async fn execute(&self, _task: &Task, input: Ballots) -> anyhow::Result<u8> {
        Ok(input.0)
    }
}

fn main() {}
