//! What both peers share: the actions, and the handler that says goodbye.

use frestq::prelude::*;

/// Starts the whole tree.
#[derive(Serialize, Deserialize, Action)]
#[action(queue = "hello_world", action = "testing.hello_world", output = String)]
pub struct Hello {
    /// Who is greeted.
    pub username: String,
}

/// Says goodbye once.
#[derive(Serialize, Deserialize, Action)]
#[action(queue = "hello_world", action = "testing.goodbye_cruel_world", output = String)]
pub struct Goodbye {
    /// Who is leaving.
    pub username: String,
}

#[frestq::task]
async fn goodbye_cruel_world(input: Goodbye) -> anyhow::Result<String> {
    Ok(format!("goodbye {}!", input.username))
}
