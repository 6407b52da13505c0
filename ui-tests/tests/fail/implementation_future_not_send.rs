use frestq::prelude::*;

#[derive(Default)]
struct Mixer;

#[frestq::task(queue = "mixnet", action = "mix")]
impl Handler for Mixer {
    type Input = u8;
    type Output = u8;

    async fn execute(&self, _task: &Task, input: u8) -> anyhow::Result<u8> {
        let shared = std::rc::Rc::new(input);
        std::future::ready(()).await;
        Ok(*shared)
    }
}

fn main() {}
