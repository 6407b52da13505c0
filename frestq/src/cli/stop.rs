//! The reason why a command ends early, and how it is reported.

use std::io::{self, Write};

use crate::model::error::Error;

/// The reason why a command ends early.
#[derive(Debug)]
pub(super) enum Stop {
    /// The command line is invalid.
    Usage(Box<Error>),
    /// The command has failed.
    Failed(Box<Error>),
    /// Standard output can't be written.
    Output(io::Error),
}

impl<E: Into<Error>> From<E> for Stop {
    fn from(error: E) -> Self {
        Stop::Failed(Box::new(error.into()))
    }
}

/// Reports the reason on standard error, and returns the exit code of the process.
pub(super) fn report(stop: &Stop) -> u8 {
    let (code, text) = match stop {
        Stop::Output(error) if is_closed(error) => return 0,
        Stop::Output(error) => (1, format!("error: can't write to standard output: {error}")),
        Stop::Usage(error) => (2, format!("{}\n\nTry --help.", chain(error))),
        Stop::Failed(error) => (1, chain(error)),
    };
    // If standard error is closed, there is nowhere to report it.
    let _ = writeln!(io::stderr(), "{text}");
    code
}

/// Formats an error with its causes, without those that its text already contains.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text_so_far = format!("error: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !text_so_far.contains(&text) {
            text_so_far.push_str(&format!("\n  caused by: {text}"));
        }
        cause = error.source();
    }
    text_so_far
}

/// Whether the reader has closed the pipe, as `head` does. That is no error.
pub(super) fn is_closed(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}
