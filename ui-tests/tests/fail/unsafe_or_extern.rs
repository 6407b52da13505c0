#[frestq::task(queue = "say_queue", action = "hello_world")]
async unsafe fn hello(input: u8) -> anyhow::Result<u8> {
    Ok(input)
}

#[frestq::task(queue = "say_queue", action = "hello_c")]
async extern "C" fn hello_c(input: u8) -> anyhow::Result<u8> {
    Ok(input)
}

fn main() {}
