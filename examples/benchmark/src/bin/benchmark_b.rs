//! Peer B: returns its input.

#[frestq::task(queue = "benchmark", action = "echo")]
async fn echo(number: u64) -> anyhow::Result<u64> {
    Ok(number)
}

frestq::main!(|app| app.configure(|c| {
    c.port = 5001;
    c.queue("benchmark").concurrency = 1024;
}));
