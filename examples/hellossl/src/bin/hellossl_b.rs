//! Peer B: says hello. It accepts this task from peer A only.

use frestq::prelude::*;

#[derive(Deserialize)]
struct Hello {
    username: String,
}

#[frestq::task(queue = "say_queue", action = "hello_world")]
async fn hello_world(input: Hello) -> anyhow::Result<String> {
    Ok(format!("hello {}!", input.username))
}

frestq::main!(|app| app.configure(|c| {
    c.port = 5001;
    c.tls.certificate = Some("b.pem".into());
    c.tls.key = Some("b.key".into());
    let a = c.peer("a");
    a.url = Some("https://127.0.0.1:5000/api/queues".into());
    a.certificates = vec!["a.pem".into()];
    a.allow = vec!["say_queue/hello_world".into()];
}));
