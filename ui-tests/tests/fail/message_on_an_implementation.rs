use frestq::prelude::*;

#[derive(Default)]
struct Note;

#[frestq::message(queue = "audit", action = "note")]
impl Handler for Note {
    type Input = u8;
    type Output = ();

    async fn execute(&self, _task: &Task, _input: u8) -> anyhow::Result<()> {
        Ok(())
    }
}

fn main() {}
