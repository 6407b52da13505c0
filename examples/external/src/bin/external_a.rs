//! Peer A: `POST /say/hello/{username}` asks peer B for a greeting that a person has to approve.

use external::{Hello, approve};
use frestq::prelude::*;

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
    .route("/say/hello/{username}", post(say_hello))
    .route("/approve/{task_id}", post(approve)));
