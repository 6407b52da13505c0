//! Compares what a page says with what a command has printed, apart from what differs each time.

/// The differences, a line each, if there are any.
pub(super) fn difference(expected: &str, printed: &str) -> Option<String> {
    let expected = lines(expected);
    let printed = lines(printed);
    if matches(&expected, &printed) {
        return None;
    }
    Some(diff(&expected, &printed))
}

/// Lines as they are compared.
fn lines(text: &str) -> Vec<String> {
    // The shell's own words about its jobs stand between what commands print.
    let is_job =
        |line: &str| line.starts_with('[') && line[1..].starts_with(|c: char| c.is_ascii_digit());
    let mut above = "";
    let mut lines = Vec::new();
    for line in text.lines().filter(|line| !is_job(line)) {
        lines.push(mask(&without_rest(above, line)));
        above = line;
    }
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines
}

/// A line without the end of a fingerprint that was wrapped in its cell, which began in the line above.
fn without_rest(above: &str, line: &str) -> String {
    let mut chars: Vec<char> = line.chars().collect();
    let starts = above.match_indices("sha256:");
    for column in starts.map(|(at, _)| above[..at].chars().count()) {
        let in_cell = column > 0 && chars.get(column - 1) == Some(&' ');
        let rest = chars.iter_mut().skip(column);
        for c in rest.take_while(|c| in_cell && c.is_ascii_hexdigit()) {
            *c = ' ';
        }
    }
    chars.into_iter().collect()
}

/// Whether the printed lines are the expected ones, of which `...` stands for any number of lines.
fn matches(expected: &[String], printed: &[String]) -> bool {
    match expected.split_first() {
        None => printed.is_empty(),
        Some((line, rest)) if line == "..." => {
            (0..=printed.len()).any(|skipped| matches(rest, &printed[skipped..]))
        }
        Some((line, rest)) => {
            printed.first().is_some_and(|first| is_same(line, first))
                && matches(rest, &printed[1..])
        }
    }
}

/// Whether two masked lines are the same. How much of a cell is left where it was cut (`…`) follows
/// the widths of other columns.
fn is_same(expected: &str, printed: &str) -> bool {
    let (expected, printed) = (expected.split(' '), printed.split(' '));
    let is_same_word = |(one, other): (&str, &str)| {
        let begins = |short: &str, long: &str| {
            let start = short.strip_suffix('…');
            start.is_some_and(|start| long.trim_end_matches('…').starts_with(start))
        };
        one == other || begins(one, other) || begins(other, one)
    };
    expected.clone().count() == printed.clone().count() && expected.zip(printed).all(is_same_word)
}

/// All lines of both, in order: common ones, missing ones (`-`) and those that are too much (`+`).
fn diff(expected: &[String], printed: &[String]) -> String {
    // The length of the longest common subsequence of what is left of both.
    let mut common = vec![vec![0; printed.len() + 1]; expected.len() + 1];
    for i in (0..expected.len()).rev() {
        for j in (0..printed.len()).rev() {
            common[i][j] = if is_same(&expected[i], &printed[j]) {
                common[i + 1][j + 1] + 1
            } else {
                common[i + 1][j].max(common[i][j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut text = String::new();
    while i < expected.len() || j < printed.len() {
        let (sign, line) = if i == expected.len() {
            ('+', &printed[j])
        } else if j == printed.len() {
            ('-', &expected[i])
        } else if is_same(&expected[i], &printed[j]) {
            (' ', &expected[i])
        } else if common[i + 1][j] >= common[i][j + 1] {
            ('-', &expected[i])
        } else {
            ('+', &printed[j])
        };
        i += usize::from(sign != '+');
        j += usize::from(sign != '-');
        text.push_str(&format!("{sign} {line}\n"));
    }
    text
}

/// A line with a name in the place of each value that differs from run to run. Such a value may
/// change the widths of columns, so runs of spaces and rules count as one.
pub(super) fn mask(line: &str) -> String {
    let mut masked = String::new();
    let mut rest = line.trim_end();
    let mut previous = String::new();
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        if end == 0 {
            // A rule's length follows the width of its column.
            let run = rest.len() - rest.trim_start_matches(first).len();
            let length = run / first.len_utf8();
            let kept = match first {
                ' ' => 1,
                '─' | '═' | '=' => length.min(3),
                _ => length,
            };
            masked.extend(std::iter::repeat_n(first, kept));
            rest = &rest[run..];
            continue;
        }
        // A full stop or a colon behind a value is not of it.
        let (run, behind) = rest.split_at(end);
        let word = run.trim_end_matches(['.', ':', '-']);
        let (word, tail) = if word.is_empty() {
            (run, "")
        } else {
            run.split_at(word.len())
        };
        rest = behind;
        let unit = behind.strip_prefix(' ').map(|next| {
            let end = next.find(|c: char| !c.is_alphanumeric());
            &next[..end.unwrap_or(next.len())]
        });
        match value(word, &previous, unit) {
            Some(name @ Value::Duration { words }) => {
                if words == 2 {
                    rest = &behind[1 + unit.map_or(0, str::len)..];
                }
                // However many parts it has, as in `1m 20s`.
                let before = masked.trim_end();
                if before.ends_with(name.name()) {
                    masked.truncate(before.len());
                } else {
                    masked.push_str(name.name());
                }
            }
            Some(name) => masked.push_str(name.name()),
            None => masked.push_str(word),
        }
        masked.push_str(tail);
        previous = word.to_lowercase();
    }
    masked
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || "_.:-+µ".contains(c)
}

/// A value that differs from run to run.
enum Value {
    Id,
    Date,
    Time,
    Fingerprint,
    Hash,
    Process,
    /// Written as one word (`1.5s`) or two (`1.5 s`).
    Duration {
        words: u8,
    },
}

impl Value {
    fn name(&self) -> &'static str {
        match self {
            Self::Id => "<id>",
            Self::Date => "<date>",
            Self::Time => "<time>",
            Self::Fingerprint => "<fingerprint>",
            Self::Hash => "<hash>",
            Self::Process => "<process>",
            Self::Duration { .. } => "<duration>",
        }
    }
}

const UNITS: [&str; 9] = ["ns", "us", "µs", "ms", "s", "m", "min", "h", "d"];
const LONG_UNITS: [&str; 8] = [
    "second", "seconds", "minute", "minutes", "hour", "hours", "day", "days",
];

fn value(word: &str, previous: &str, next: Option<&str>) -> Option<Value> {
    let is_number = |text: &str| text.parse::<f64>().is_ok() && text.starts_with(digit);
    let is_hex = |text: &str| text.chars().all(|c| c.is_ascii_hexdigit());
    if word.starts_with("sha256:") {
        return Some(Value::Fingerprint);
    }
    if is_id(word) {
        return Some(Value::Id);
    }
    if let Some((date, time)) = word.split_once('T')
        && like(date, "0000-00-00")
        && is_time(time)
    {
        return Some(Value::Time);
    }
    if like(word, "0000-00-00") {
        return Some(Value::Date);
    }
    if is_time(word) {
        return Some(Value::Time);
    }
    let last = word.rsplit(':').next().unwrap_or(word);
    if last.len() >= 8 && is_hex(last) && last.contains(digit) {
        return Some(Value::Hash);
    }
    if ["pid", "process"].contains(&previous) && word.chars().all(digit) {
        return Some(Value::Process);
    }
    let number = word.trim_end_matches(|c: char| c.is_alphabetic());
    let unit = &word[number.len()..];
    if is_number(number) && UNITS.contains(&unit) {
        return Some(Value::Duration { words: 1 });
    }
    let is_unit = |unit| UNITS.contains(&unit) || LONG_UNITS.contains(&unit);
    if is_number(word) && next.is_some_and(is_unit) {
        return Some(Value::Duration { words: 2 });
    }
    None
}

fn digit(c: char) -> bool {
    c.is_ascii_digit()
}

/// Whether a word looks like a UUID, or like the first characters of one.
pub(super) fn is_id(word: &str) -> bool {
    let shape = "00000000-0000-0000-0000-000000000000";
    let fits = |(c, s): (char, char)| match s {
        '-' => c == '-',
        _ => c.is_ascii_hexdigit(),
    };
    (8..=shape.len()).contains(&word.len())
        && word.chars().zip(shape.chars()).all(fits)
        && word.contains(digit)
}

/// Whether a word is one like this, with digits in the place of the zeros.
fn like(word: &str, shape: &str) -> bool {
    word.len() == shape.len()
        && word.chars().zip(shape.chars()).all(|(c, s)| match s {
            '0' => digit(c),
            _ => c == s,
        })
}

fn is_time(word: &str) -> bool {
    let time = word.split(['Z', '+', '.']).next().unwrap_or(word);
    like(time, "00:00:00")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_from_run_to_run_is_masked() {
        for (line, masked) in [
            (
                "01a20cb4-b09c-73fe-9c48-32fd36e7ec4f  finished  texts",
                "<id> finished texts",
            ),
            ("01a20cb4-b09  finished", "<id> finished"),
            (
                "task 01a20cb4-b840-718e-a70e-507aa6555c02: ended",
                "task <id>: ended",
            ),
            (
                r#"{"id":"01a20cb4-b840-718e-a70e-507aa6555c02"}"#,
                r#"{"id":"<id>"}"#,
            ),
            ("2026-11-24 08:38:19Z", "<date> <time>"),
            ("2026-11-24T08:38:19.123456Z, later", "<time>, later"),
            (
                "5s ago, 1m 20s ago, 1.5 ms",
                "<duration> ago, <duration> ago, <duration>",
            ),
            ("after 3 seconds.", "after <duration>."),
            ("sha256:9f86d081", "<fingerprint>"),
            ("main:12:9f86d081884c7d659a2feaa0c55ad015", "<hash>"),
            ("pid 4711, process 12", "pid <process>, process <process>"),
            ("a ─────── b", "a ─── b"),
            (
                "http://127.0.0.1:5000/api/queues",
                "http://127.0.0.1:5000/api/queues",
            ),
            (
                "goodbye from port 6000, 2 tasks",
                "goodbye from port 6000, 2 tasks",
            ),
            ("  \"deadline\": null   ", " \"deadline\": null"),
        ] {
            assert_eq!(mask(line), masked);
        }
    }

    #[test]
    fn three_dots_stand_for_any_lines() {
        for printed in ["a\nc\n", "a\nb\nc\n", "a\nb\nb\nc\n\n"] {
            assert_eq!(difference("a\n...\nc\n", printed), None);
        }
        assert!(difference("a\n...\nc\n", "a\nb\n").is_some());
        assert!(difference("a\n", "a\nb\n").is_some());
    }

    #[test]
    fn a_cell_may_be_cut_anywhere() {
        assert_eq!(difference("a  hello_w…  c\n", "a  hel…   c\n"), None);
        assert_eq!(difference("a  hello_w…  c\n", "a  hello_world c\n"), None);
        assert!(difference("a  hello_w…  c\n", "a  help…  c\n").is_some());
    }

    #[test]
    fn the_wrapped_end_of_a_fingerprint_does_not_count() {
        let shown = "b  http://  sha256:d784  x\n   peer/    ea\n";
        assert_eq!(difference(shown, &shown.replace("ea", "9")), None);
    }

    #[test]
    fn a_difference_shows_what_is_missing_and_what_is_too_much() {
        assert_eq!(
            difference("a\nb\nc\n", "a\nx\nc\n").unwrap(),
            "  a\n- b\n+ x\n  c\n"
        );
    }

    #[test]
    fn what_the_shell_says_about_its_jobs_does_not_count() {
        assert_eq!(difference("a\n", "[1]+  Done  counter\na\n"), None);
        assert!(difference("[\n", "\n").is_some());
    }

    #[test]
    fn ids_are_told_from_words() {
        assert!(is_id("01a20cb4-b09c-73fe-9c48-32fd36e7ec4f"));
        assert!(is_id("01a20cb4-b09") && is_id("01a20cb4"));
        for word in [
            "hello_world",
            "deadbeef",
            "01a20cb",
            "01a20cb4-b09c-73fe-9c48-32fd36e7ec4f0",
        ] {
            assert!(!is_id(word), "{word}");
        }
    }
}
