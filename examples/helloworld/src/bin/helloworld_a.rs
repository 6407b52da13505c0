//! Peer A: `POST /say/hello/{username}` sends a task to peer B, which says hello.

use frestq::prelude::*;

/// The action that peer B serves. Both peers could share this type from one crate. Here each peer
/// has its own.
#[derive(Serialize, Deserialize, Action)]
#[action(queue = "say_queue", action = "hello_world", output = String)]
struct Hello {
    username: String,
}

async fn say_hello(
    State(peer): State<Frestq>,
    Path(username): Path<String>,
) -> frestq::Result<String> {
    let b = std::env::var("PEER_B").unwrap_or_else(|_| "http://127.0.0.1:5001/api/queues".into());
    let task = peer.send(Hello { username }.to(b)).await?;
    Ok(format!("{}\n", task.id()))
}

frestq::main!(|app| app
    .configure(|c| c.port = 5000)
    .route("/say/hello/{username}", post(say_hello)));
