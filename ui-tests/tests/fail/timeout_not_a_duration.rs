#[frestq::task(queue = "say_queue", action = "no_unit", timeout = "30")]
async fn no_unit(input: u8) -> anyhow::Result<u8> {
    Ok(input)
}

#[frestq::task(queue = "say_queue", action = "no_string", timeout = 30)]
async fn no_string(input: u8) -> anyhow::Result<u8> {
    Ok(input)
}

#[frestq::task(queue = "say_queue", action = "no_time", timeout = "0s")]
async fn no_time(input: u8) -> anyhow::Result<u8> {
    Ok(input)
}

fn main() {}
