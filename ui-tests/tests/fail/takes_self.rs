struct Hello;

impl Hello {
    #[frestq::task(queue = "say_queue", action = "hello_world")]
    async fn hello(&self, input: u8) -> anyhow::Result<u8> {
        Ok(input)
    }
}

#[frestq::task(queue = "say_queue", action = "hello_world")]
async fn hello(self) -> anyhow::Result<u8> {
    Ok(1)
}

fn main() {}
