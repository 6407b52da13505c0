//! Claimed tasks.

use tokio::sync::watch;

use crate::{
    model::{Json, RunPhase, TaskState},
    store::Waiting,
};

/// A task that has a slot of its queue and starts to run.
#[derive(Debug)]
pub(crate) struct ClaimedTask {
    pub(crate) state: TaskState,
    pub(crate) input: Json,
    /// The error for `handle_error`, if this run handles one.
    pub(crate) error: Option<Json>,
    /// The reservation that it holds.
    pub(crate) reservation: Json,
    /// Becomes `true` when the task is cancelled.
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
