//! A handler that is configured out registers nothing.

#![deny(warnings)]

#[frestq::task(queue = "say_queue", action = "absent")]
#[cfg(any())]
async fn absent(input: Undefined) -> Undefined {}

#[frestq::task(queue = "say_queue", action = "present")]
#[cfg(all())]
/// Documented.
async fn present(input: u8) -> anyhow::Result<u8> {
    Ok(input)
}

fn main() {}
