//! The log, on standard error, so that the output of commands stays clean.

use std::{
    fmt,
    io::{self, IsTerminal, Write},
    str::FromStr,
};

use tracing_subscriber::{filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

/// The names of the levels, including those of the original frestq, and the level of `tracing`
/// for each. `tracing` has nothing above `error`, so CRITICAL is the same as ERROR.
const LEVELS: &[(&str, &str)] = &[
    ("trace", "trace"),
    ("debug", "debug"),
    ("info", "info"),
    ("warning", "warn"),
    ("warn", "warn"),
    ("error", "error"),
    ("critical", "error"),
    ("off", "off"),
];

/// Dependencies that log much at `info`: only their warnings are logged, unless directives or
/// TRACE ask for more.
const NOISY_CRATES: &[&str] = &[
    "sqlx",
    "hyper",
    "hyper_util",
    "h2",
    "reqwest",
    "rustls",
    "tower",
];

/// What is logged: a level (`debug`, `WARNING`) or directives (`frestq=debug,sqlx=info`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogLevel(String);

impl Default for LogLevel {
    fn default() -> Self {
        Self::of_level("info")
    }
}

impl LogLevel {
    fn of_level(level: &str) -> Self {
        let below = match level {
            "info" | "debug" => "warn",
            "trace" => "debug",
            _ => return Self(level.to_owned()),
        };
        let mut directives = level.to_owned();
        for name in NOISY_CRATES {
            directives.push_str(&format!(",{name}={below}"));
        }
        Self(directives)
    }
}

impl FromStr for LogLevel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let lower = text.trim().to_ascii_lowercase();
        if let Some((_, level)) = LEVELS.iter().find(|(word, _)| *word == lower) {
            return Ok(Self::of_level(level));
        }
        // A single word would be parsed as the name of a crate, and hide a misspelled level.
        if !text.contains(['=', ',']) {
            return Err(format!(
                "{text:?} is not a level; \
                 the levels are TRACE, DEBUG, INFO, WARNING, ERROR, CRITICAL and OFF, \
                 and directives look like frestq=debug,sqlx=info"
            ));
        }
        match text.parse::<Targets>() {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(error) => Err(format!("{text:?} can't be read as log directives: {error}")),
        }
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Starts the log. A process that already has one, as under a test, keeps it.
pub(crate) fn start(level: &LogLevel) {
    // It was parsed before, or is built from the levels above.
    let targets: Targets = level.0.parse().unwrap_or_default();
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(|| Indented(io::stderr()))
        .with_ansi(io::stderr().is_terminal());
    let _ = tracing_subscriber::registry()
        .with(lines)
        .with(targets)
        .try_init();
}

/// Indents the continuation lines of an event, since text of another peer in it must not look
/// like an event of this peer. It writes one event at a time.
struct Indented<W>(W);

impl<W: Write> Write for Indented<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let lines = text.strip_suffix('\n').unwrap_or(&text);
        let mut written = String::with_capacity(text.len() + 1);
        for c in lines.chars() {
            match c {
                '\n' => written.push_str("\n    "),
                // Colours; in messages these characters are escaped before.
                '\u{1b}' | '\t' => written.push(c),
                c if c.is_control() => written.push('\u{fffd}'),
                c => written.push(c),
            }
        }
        written.push('\n');
        self.0.write_all(written.as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_the_original_are_levels() {
        for (word, level) in [
            ("DEBUG", "debug"),
            ("INFO", "info"),
            ("WARNING", "warn"),
            ("ERROR", "error"),
            ("CRITICAL", "error"),
        ] {
            let level_of: LogLevel = word.parse().unwrap();
            assert!(level_of.0 == level || level_of.0.starts_with(&format!("{level},")));
        }
    }

    #[test]
    fn dependencies_log_less_than_frestq() {
        assert!(LogLevel::default().0.contains("sqlx=warn"));
        assert!(
            "debug"
                .parse::<LogLevel>()
                .unwrap()
                .0
                .contains("hyper=warn")
        );
    }

    #[test]
    fn an_event_begins_one_line_whatever_it_contains() {
        let mut log = Indented(Vec::new());
        for event in ["first\n", "second\r\nforged\n\nforged\u{7}\n", "third\n"] {
            assert_eq!(log.write(event.as_bytes()).unwrap(), event.len());
        }
        let written = String::from_utf8(log.0).unwrap();
        let begin: Vec<_> = written.lines().filter(|l| !l.starts_with("    ")).collect();
        assert_eq!(begin, ["first", "second\u{fffd}", "third"]);
        assert!(!written.contains(['\r', '\u{7}']));
    }

    #[test]
    fn directives_are_taken_as_they_are() {
        let level: LogLevel = "frestq=debug,sqlx=info".parse().unwrap();
        assert_eq!(level.to_string(), "frestq=debug,sqlx=info");
    }

    #[test]
    fn a_misspelled_level_is_not_the_name_of_a_crate() {
        let error = "DEBGU".parse::<LogLevel>().unwrap_err();
        assert!(error.contains("DEBUG"), "{error}");
        assert!("frestq=loud".parse::<LogLevel>().is_err());
    }
}
