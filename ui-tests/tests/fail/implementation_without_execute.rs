use frestq::prelude::*;

#[derive(Default)]
struct Mixer;

#[frestq::task(queue = "mixnet", action = "mix")]
impl Handler for Mixer {
    type Input = u8;
    type Output = u8;

    async fn handle_error(&self, _task: &Task, _error: &TaskError) -> Recovery<u8> {
        Recovery::Propagate
    }
}

fn main() {}
