//! A director under no prelude at all, and a handler that reserves.
#![no_implicit_prelude]

use ::frestq::{Director, Handler, Synchronized, Task};

#[derive(::std::default::Default)]
struct Conductor;

#[::frestq::director(name = "conductor")]
impl Director for Conductor {}

#[derive(::std::default::Default)]
struct Player;

#[::frestq::task(queue = "orchestra", action = "play")]
impl Handler for Player {
    type Input = ::std::string::String;
    type Output = u8;
    type Reservation = u8;

    async fn reserve(&self, _: &Task) -> ::anyhow::Result<u8> {
        ::anyhow::Ok(1)
    }

    async fn cancel_reservation(&self, _: &Task, _: u8) -> ::anyhow::Result<()> {
        ::anyhow::Ok(())
    }

    async fn execute(&self, task: &Task, _: ::std::string::String) -> ::anyhow::Result<u8> {
        ::anyhow::Ok(task.reservation()?)
    }
}

fn main() {
    let _ = Synchronized::<Conductor>::new();
    let _ = Synchronized::<()>::new();
}
