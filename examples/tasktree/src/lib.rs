//! What both peers know: the actions, and how to say goodbye, which either does when asked.

use frestq::prelude::*;

/// Asks for the whole tree.
#[derive(Serialize, Deserialize, Action)]
#[action(queue = "hello_world", action = "testing.hello_world", output = String)]
pub struct Hello {
    /// Who is greeted.
    pub username: String,
}

/// Asks for one goodbye.
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
