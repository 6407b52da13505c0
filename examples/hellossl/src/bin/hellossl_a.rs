//! Peer A: `POST /say/hello/{username}` sends a task to peer B over mutual TLS. A grants B
//! nothing, so B can only report on A's tasks.

use frestq::prelude::*;

/// B's URL, unless `PEER_B` is set.
const B: &str = "https://127.0.0.1:5001/api/queues";

#[derive(Serialize, Deserialize, Action)]
#[action(queue = "say_queue", action = "hello_world", output = String)]
struct Hello {
    username: String,
}

async fn say_hello(
    State(peer): State<Frestq>,
    Path(username): Path<String>,
) -> frestq::Result<String> {
    let b = std::env::var("PEER_B").unwrap_or_else(|_| B.into());
    let task = peer.send(Hello { username }.to(b)).await?;
    Ok(format!("{}\n", task.id()))
}

frestq::main!(|app| app
    .configure(|c| {
        c.port = 5000;
        c.tls.certificate = Some("a.pem".into());
        c.tls.key = Some("a.key".into());
        let b = c.peer("b");
        b.url = Some(B.into());
        b.certificates = vec!["b.pem".into()];
    })
    .route("/say/hello/{username}", post(say_hello)));
