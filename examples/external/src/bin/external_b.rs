//! Peer B: lets a person decide. `POST /approve/{task_id}` finishes the external task with that
//! id.

use external::{Hello, approve};
use frestq::prelude::*;

#[frestq::task]
async fn hello_world(input: Hello, task: Task) -> anyhow::Result<()> {
    task.add(External::new().label("approve_hello").data(&input));
    Ok(())
}

frestq::main!(|app| app
    .configure(|c| c.port = 5001)
    .route("/approve/{task_id}", post(approve)));
