//! What an action declares about its own execution.

use std::time::Duration;

/// The options of `#[frestq::task]`, as the engine reads them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActionOptions {
    /// Callable by this peer's own code only.
    pub local: bool,
    /// How often a handler's `Err` is tried again before it is final.
    pub retries: u32,
    /// How often in a row a run of any of its methods may be cut off (a crash, a lost lease) before the
    /// task ends in error.
    pub max_attempts: u32,
    /// How long one run may take; unlimited when `None`.
    pub timeout: Option<Duration>,
    /// Never run a second time: a cut-off run ends in error `interrupted`.
    pub at_most_once: bool,
    /// The handler has something to say when its own run or a child fails.
    pub handles_errors: bool,
}

impl ActionOptions {
    /// Nothing declared: any peer may call, an `Err` is final, up to 20 cut-off runs, no time limit.
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
