//! Peer A: `POST /say/hello/{username}` sends a task to peer B, which makes a tree of it. One
//! subtask of the tree runs on A.

use frestq::prelude::*;
use tasktree::Hello;

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
