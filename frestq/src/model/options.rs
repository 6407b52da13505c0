//! The options of an action.

use std::time::Duration;

/// The options of `#[frestq::task]`, as the engine reads them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActionOptions {
    /// Only this peer itself may send such tasks.
    pub local: bool,
    /// How often a run that returned `Err` is retried.
    pub retries: u32,
    /// How many runs in a row may be interrupted (a crash, a lost lease) before the task ends in
    /// error. Runs of all methods count.
    pub max_attempts: u32,
    /// The time limit of a run; `None` for no limit.
    pub timeout: Option<Duration>,
    /// An interrupted run is never repeated: the task ends with the error `interrupted`.
    pub at_most_once: bool,
    /// Whether the handler implements `handle_error`.
    pub handles_errors: bool,
}

impl ActionOptions {
    /// The defaults: any peer may send tasks, an `Err` is final, up to 20 interrupted runs, no
    /// time limit.
    pub const DEFAULT: Self = Self {
        local: false,
        retries: 0,
        max_attempts: 20,
        timeout: None,
        at_most_once: false,
        handles_errors: false,
    };
}

impl Default for ActionOptions {
    fn default() -> Self {
        Self::DEFAULT
    }
}
