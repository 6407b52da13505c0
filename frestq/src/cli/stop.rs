//! Why a command ends early, and what is said of it.

use std::io::{self, Write};

use crate::model::error::Error;

/// Why a command ends early.
#[derive(Debug)]
pub(super) enum Stop {
    /// It was asked for wrongly.
    Usage(Box<Error>),
    Failed(Box<Error>),
    /// Standard output takes no more.
    Output(io::Error),
}

impl<E: Into<Error>> From<E> for Stop {
    fn from(error: E) -> Self {
        Stop::Failed(Box::new(error.into()))
    }
}

/// Says on standard error why it went wrong, and returns the process's exit code.
pub(super) fn report(stop: &Stop) -> u8 {
    let (code, text) = match stop {
        Stop::Output(error) if is_closed(error) => return 0,
        Stop::Output(error) => (1, format!("error: can't write to standard output: {error}")),
        Stop::Usage(error) => (2, format!("{}\n\nTry --help.", chain(error))),
        Stop::Failed(error) => (1, chain(error)),
    };
    // There is nowhere left to say that standard error is closed.
    let _ = writeln!(io::stderr(), "{text}");
    code
}

/// An error with its causes, leaving out those it has already told.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut told = format!("error: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !told.contains(&text) {
            told.push_str(&format!("\n  caused by: {text}"));
        }
        cause = error.source();
    }
    told
}

/// Whether the reader has gone away, as `head` does: no fault of anybody's.
pub(super) fn is_closed(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}
