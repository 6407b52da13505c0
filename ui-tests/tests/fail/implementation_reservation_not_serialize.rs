use frestq::prelude::*;

struct Seat;

#[derive(Default)]
struct Player;

#[frestq::task(queue = "orchestra", action = "play")]
impl Handler for Player {
    type Input = String;
    type Output = ();
    type Reservation = Seat;

    async fn reserve(&self, _: &Task) -> anyhow::Result<Seat> {
        Ok(Seat)
    }

    async fn execute(&self, _: &Task, _: String) -> anyhow::Result<()> {
        Ok(())
    }
}

fn main() {}
