//! Output: writes to a standard output that may be closed at any time, and escapes texts of other
//! peers.

use std::io::Write;

use serde::Serialize;

use super::stop::Stop;

/// Writes one line.
pub(super) fn line(out: &mut dyn Write, text: &str) -> Result<(), Stop> {
    writeln!(out, "{text}").map_err(Stop::Output)
}

/// Writes JSON over several lines, for one object or a listing.
pub(super) fn pretty<T: Serialize + ?Sized>(out: &mut dyn Write, value: &T) -> Result<(), Stop> {
    line(out, &layout(&serde_json::to_string(value)?, Some(0)))
}

/// Writes JSON in one line, for a stream of objects.
pub(super) fn compact<T: Serialize + ?Sized>(out: &mut dyn Write, value: &T) -> Result<(), Stop> {
    line(out, &layout(&serde_json::to_string(value)?, None))?;
    out.flush().map_err(Stop::Output)
}

/// Formats valid JSON: over several lines, indented by `depth` levels, or in one line. It works
/// on text, since numbers in a payload may exceed any Rust type.
pub(super) fn layout(json: &str, depth: Option<usize>) -> String {
    let mut laid = String::with_capacity(json.len());
    let mut level = depth.unwrap_or(0);
    let newline = |laid: &mut String, level: usize| {
        if depth.is_some() {
            laid.push('\n');
            laid.extend(std::iter::repeat_n("  ", level));
        }
    };
    let mut characters = json
        .chars()
        .filter({
            let (mut quoted, mut escaped) = (false, false);
            move |c| {
                let keep = quoted || !c.is_ascii_whitespace();
                if *c == '"' && !escaped {
                    quoted = !quoted;
                }
                escaped = *c == '\\' && !escaped;
                keep
            }
        })
        .peekable();
    let (mut quoted, mut escaped) = (false, false);
    while let Some(c) = characters.next() {
        if quoted || c == '"' {
            laid.push(c);
            if c == '"' && !escaped {
                quoted = !quoted;
            }
            escaped = c == '\\' && !escaped;
            continue;
        }
        match c {
            '{' | '[' => {
                laid.push(c);
                if let Some(end) = characters.next_if(|next| matches!(next, '}' | ']')) {
                    laid.push(end);
                } else {
                    level += 1;
                    newline(&mut laid, level);
                }
            }
            '}' | ']' => {
                level = level.saturating_sub(1);
                newline(&mut laid, level);
                laid.push(c);
            }
            ',' => {
                laid.push(c);
                newline(&mut laid, level);
            }
            ':' if depth.is_some() => laid.push_str(": "),
            c => laid.push(c),
        }
    }
    laid
}

/// Replaces characters that a terminal would interpret, in text from other peers.
pub(super) fn harmless(text: &str) -> String {
    let safe = |c: char| match c {
        '\n' | '\t' => c,
        // Also characters that change the direction of text.
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    text.chars().map(safe).collect()
}

/// Like [`harmless`], in one line.
pub(super) fn one_line(text: &str) -> String {
    let flat = |c| if matches!(c, '\n' | '\t') { ' ' } else { c };
    harmless(text).chars().map(flat).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_laid_out_without_touching_strings_and_numbers() {
        let json = r#"{ "a" : [1e999,  {}, "x \" , {" ], "b":[ ] }"#;
        assert_eq!(layout(json, None), r#"{"a":[1e999,{},"x \" , {"],"b":[]}"#);
        let lines = "{\n  \"a\": [\n    1e999,\n    {},\n    \"x \\\" , {\"\n  ],\n  \"b\": []\n}";
        assert_eq!(layout(json, Some(0)), lines);
    }

    #[test]
    fn characters_that_a_terminal_interprets_are_replaced() {
        assert_eq!(
            harmless("a\u{1b}[2Jb\u{9b}c\nd"),
            "a\u{fffd}[2Jb\u{fffd}c\nd"
        );
        assert_eq!(one_line("a\nb"), "a b");
        assert_eq!(harmless("\u{202e}abc"), "\u{fffd}abc");
    }
}
