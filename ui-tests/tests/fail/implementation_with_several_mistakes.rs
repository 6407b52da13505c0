use frestq::prelude::*;

struct Mixer;

#[frestq::task(que = "mixnet", retries = "2", timeout = "0s")]
impl Handler for Mixer {
    type Input = u8;
    type Output = u8;

    async fn execute(&self, _task: &Task, input: u8) -> anyhow::Result<u8> {
        Ok(input)
    }
}

fn main() {}
