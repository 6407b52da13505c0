//! Peer A: `POST /say/hello/{username}` sends a task to peer B, which adds two synchronized
//! groups. One subtask of each group runs on A, which has eleven slots and ten ports.

use frestq::prelude::*;
use synchronized::{Hello, own_ports};

async fn say_hello(
    State(peer): State<Frestq>,
    Path(username): Path<String>,
) -> frestq::Result<String> {
    let b = std::env::var("PEER_B").unwrap_or_else(|_| "http://127.0.0.1:5001/api/queues".into());
    let task = peer.send(Hello { username }.to(b)).await?;
    Ok(format!("{}\n", task.id()))
}

frestq::main!(|app| {
    own_ports(6010..=6019);
    app.configure(|c| {
        c.port = 5000;
        c.queues
            .entry("goodbye_world".into())
            .or_default()
            .concurrency = 11;
    })
    .route("/say/hello/{username}", post(say_hello))
});
