use frestq::prelude::*;

#[derive(Default)]
struct Mixer<T>(T);

#[frestq::task(queue = "mixnet", action = "mix")]
impl<T: Send + Sync + 'static> Handler for Mixer<T> {
    type Input = u8;
    type Output = u8;

    async fn execute(&self, _task: &Task, input: u8) -> anyhow::Result<u8> {
        Ok(input)
    }
}

fn main() {}
