//! What both peers know: the action, and the view by which a person approves.

use frestq::{TaskId, prelude::*};

/// Asks for a greeting that somebody has to approve.
#[derive(Serialize, Deserialize, Action)]
#[action(queue = "say_queue", action = "hello_world", output = ())]
pub struct Hello {
    /// Who is greeted.
    pub username: String,
}

/// What the person says, whoever it is.
#[derive(Serialize)]
struct Approval {
    yeah: &'static str,
}

/// `POST /approve/{task_id}`: ends the external task of this id.
///
/// # Errors
///
/// If this peer has no such task, or it does not wait.
pub async fn approve(State(peer): State<Frestq>, Path(id): Path<TaskId>) -> frestq::Result<()> {
    let approval = Approval { yeah: "whatever" };
    peer.external(id).finish(&approval).await
}
