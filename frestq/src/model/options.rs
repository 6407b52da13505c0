//! What an action declares about its own execution.

use std::time::Duration;

/// The options of `#[frestq::task]`, as the engine reads them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActionOptions {
    /// Callable by this peer's own code only.
    pub local: bool,
    /// How often a handler's `Err` is tried again before it is final.
    pub retries: u32,
    /// How often a run may be cut off (a crash, a lost lease) before the task ends in error.
    pub max_attempts: u32,
    /// How long one run may take; unlimited when `None`.
    pub timeout: Option<Duration>,
    /// Whether its handler says what becomes of errors.
    pub handles_errors: bool,
    /// Never run a second time: a cut-off run ends in error `interrupted`.
    pub at_most_once: bool,
}

impl ActionOptions {
    /// Nothing declared: any peer may call, an `Err` is final, up to 20 cut-off runs, no time limit.
    pub const DEFAULT: Self = Self {
        local: false,
        retries: 0,
        max_attempts: 20,
        timeout: None,
        handles_errors: false,
        at_most_once: false,
    };
}

impl Default for ActionOptions {
    fn default() -> Self {
        Self::DEFAULT
    }
}
