//! What both peers share: the action, and the view with which a person approves.

use frestq::{TaskId, prelude::*};

/// A greeting that a person has to approve.
#[derive(Serialize, Deserialize, Action)]
#[action(queue = "say_queue", action = "hello_world", output = ())]
pub struct Hello {
    /// Who is greeted.
    pub username: String,
}

/// The output of an approved task.
#[derive(Serialize)]
struct Approval {
    yeah: &'static str,
}

/// `POST /approve/{task_id}`: finishes the external task with this id.
///
/// # Errors
///
/// Fails if this peer has no such task, or if the task is not waiting.
pub async fn approve(State(peer): State<Frestq>, Path(id): Path<TaskId>) -> frestq::Result<()> {
    let approval = Approval { yeah: "whatever" };
    peer.external(id).finish(&approval).await
}
