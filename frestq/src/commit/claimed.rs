//! A task that got a slot.

use tokio::sync::watch;

use crate::{
    model::{Json, RunPhase, TaskState},
    store::Waiting,
};

/// A task that got a slot: to be run now.
#[derive(Debug)]
pub(crate) struct ClaimedTask {
    pub(crate) state: TaskState,
    pub(crate) input: Json,
    /// What its handler is to handle, if it is not to execute.
    pub(crate) error: Option<Json>,
    /// What it has reserved.
    pub(crate) reservation: Json,
    /// Turns true when the task is called off.
    pub(crate) cancelled: Option<watch::Receiver<bool>>,
}

impl From<Waiting> for ClaimedTask {
    fn from(task: Waiting) -> Self {
        let Waiting {
            state,
            input,
            output,
            reservation,
        } = task;
        let error = (state.moment == Some(RunPhase::HandleError)).then_some(output);
        Self {
            state,
            input,
            error,
            reservation,
            cancelled: None,
        }
    }
}
