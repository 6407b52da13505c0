//! The log: to standard error, so that the output of a listing stays clean.

use std::{
    fmt,
    io::{self, IsTerminal, Write},
    str::FromStr,
};

use tracing_subscriber::{filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

/// Words for a level, the original's among them, and what each is here. There is nothing above
/// `error` in `tracing`, so CRITICAL is as quiet as it gets short of `off`.
const WORDS: &[(&str, &str)] = &[
    ("trace", "trace"),
    ("debug", "debug"),
    ("info", "info"),
    ("warning", "warn"),
    ("warn", "warn"),
    ("error", "error"),
    ("critical", "error"),
    ("off", "off"),
];

/// Crates below us that say much at `info`; they are heard from `warn` on, unless all is wanted.
const CHATTY: &[&str] = &[
    "sqlx",
    "hyper",
    "hyper_util",
    "h2",
    "reqwest",
    "rustls",
    "tower",
];

/// What is written to the log: a level (`debug`, `WARNING`), or directives (`frestq=debug,sqlx=info`).
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
        for name in CHATTY {
            directives.push_str(&format!(",{name}={below}"));
        }
        Self(directives)
    }
}

impl FromStr for LogLevel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let lower = text.trim().to_ascii_lowercase();
        if let Some((_, level)) = WORDS.iter().find(|(word, _)| *word == lower) {
            return Ok(Self::of_level(level));
        }
        // A lone word would be taken for the name of a crate, and a misspelt level would go unnoticed.
        if !text.contains(['=', ',']) {
            return Err(format!(
                "{text:?} is no level; levels are TRACE, DEBUG, INFO, WARNING, ERROR, CRITICAL and OFF, and directives look like frestq=debug,sqlx=info"
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

/// Starts the log. A process that has one already, as under a test, keeps it.
pub(crate) fn start(level: &LogLevel) {
    // It was parsed before, or is made of our own words.
    let targets: Targets = level.0.parse().unwrap_or_default();
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(|| Indented(io::stderr()))
        .with_ansi(io::stderr().is_terminal());
    let _ = tracing_subscriber::registry()
        .with(lines)
        .with(targets)
        .try_init();
}

/// Indents the second and further lines of an event: words of another peer may be in it, and are not to
/// be taken for an event of ours. It is written to an event at a time.
struct Indented<W>(W);

impl<W: Write> Write for Indented<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let lines = text.strip_suffix('\n').unwrap_or(&text);
        let mut written = String::with_capacity(text.len() + 1);
        for c in lines.chars() {
            match c {
                '\n' => written.push_str("\n    "),
                // Colours; what stands in a message is escaped before.
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
    fn the_words_of_the_original_are_levels() {
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
    fn dependencies_are_quieter_than_we_are() {
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
    fn an_event_begins_one_line_whatever_is_in_it() {
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
    fn a_misspelt_level_is_no_name_of_a_crate() {
        let error = "DEBGU".parse::<LogLevel>().unwrap_err();
        assert!(error.contains("DEBUG"), "{error}");
        assert!("frestq=loud".parse::<LogLevel>().is_err());
    }
}
