//! Expansions neither take nor are taken by the user's names.

#![deny(warnings)]
#![allow(dead_code, non_camel_case_types)]

use ::frestq::Action as _;

struct Result;
struct Option;
struct Registration;
struct Argument;
mod core {}
mod std {}
mod frestq_macros {}
mod inventory {}
mod frestq {}

#[::frestq::task(queue = "clash", action = "task")]
async fn task(task: ::frestq::Task) -> ::anyhow::Result<String> {
    Ok(task.id().to_string())
}

#[::frestq::task(queue = "clash", action = "argument0")]
async fn argument0(argument0: u8, run: ::frestq::Task) -> ::anyhow::Result<u8> {
    let _ = run;
    Ok(argument0)
}

#[::frestq::task(queue = "clash", action = "requirements")]
async fn requirements(requirements: u8) -> ::anyhow::Result<u8> {
    Ok(requirements)
}

#[derive(::serde::Serialize, ::serde::Deserialize, ::frestq::Action)]
#[action(queue = "clash", action = "hello_world", output = u8)]
struct Hello {}

#[::frestq::task]
async fn outcome(_: Hello) -> ::anyhow::Result<u8> {
    Ok(1)
}

#[derive(Default)]
struct HANDLER;

#[::frestq::task(queue = "clash", action = "HANDLER")]
impl ::frestq::Handler for HANDLER {
    type Input = u8;
    type Output = u8;

    async fn execute(&self, _: &::frestq::Task, input: u8) -> ::anyhow::Result<u8> {
        Ok(input)
    }

    async fn handle_error(
        &self,
        _: &::frestq::Task,
        _: &::frestq::TaskError,
    ) -> ::frestq::Recovery<u8> {
        ::frestq::Recovery::Propagate
    }
}

fn main() {
    let _ = Hello::QUEUE;
}
