//! What the text of a command says about it, and its output about tasks.

use super::comparing::is_id;

/// Whether a command needs nginx.
pub(super) fn uses_nginx(text: &str) -> bool {
    text.split_whitespace().any(|word| word == "nginx")
}

/// Whether a command is what runs this test, or a benchmark, which measures nothing beside tests.
pub(super) fn is_skipped(text: &str) -> bool {
    text.contains("cargo test --workspace")
        || text.contains("cargo run --release -p benchmark")
        || text.contains(".ci/run")
        || (text.contains("cargo doc") && text.contains("--open"))
}

/// Whether a command changes nothing, so that it may be repeated.
pub(super) fn only_lists(text: &str) -> bool {
    const FLAGS: [&str; 11] = [
        "--tasks",
        "--messages",
        "--show-task",
        "--show-message",
        "--show-external",
        "--tree",
        "--watch",
        "--peers",
        "--audit",
        "--verify-audit",
        "--check",
    ];
    const SENDS: [&str; 6] = ["-d", "--data", "-X", "--request", "-F", "-T"];
    let words: Vec<&str> = text.split_whitespace().collect();
    let reads = ["cat", "grep", "head", "ls", "tail", "wc"].contains(&words[0]);
    let gets = words[0] == "curl"
        && !words
            .iter()
            .any(|word| SENDS.iter().any(|flag| word.starts_with(flag)));
    (reads || gets || words.iter().any(|word| FLAGS.contains(word))) && !text.contains('>')
}

/// Whether a command starts something in the background.
pub(super) fn starts_job(text: &str) -> bool {
    let mut quote = None;
    let mut previous = ' ';
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let next = chars.peek().copied();
        match (quote, c) {
            (None, '#') if previous.is_whitespace() => return false,
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), _) if open == c => quote = None,
            (None, '&') if previous == '&' || next == Some('&') => {}
            (None, '&') if matches!(previous, '>' | '<') || next == Some('>') => {}
            (None, '&') => return true,
            _ => {}
        }
        previous = c;
    }
    false
}

/// The id of the task that an output names: that of the record that it shows, the first one that it
/// lists, or else the last one. Where `keeps` is set, an output names a task only as its record.
pub(super) fn named_id(shown: &str, keeps: bool) -> Option<String> {
    let mut lines = shown.lines().map(str::trim_start);
    while let Some(line) = lines.next() {
        let mut words = line.split_whitespace();
        if words.next() == Some("id") {
            let second = words.next().filter(|word| is_id(word));
            let below = || lines.next()?.split_whitespace().next();
            return second
                .or_else(below)
                .filter(|word| is_id(word))
                .map(str::to_owned);
        }
    }
    let mut words = shown.split(|c: char| !c.is_ascii_hexdigit() && c != '-');
    let last = words.rfind(|word| word.len() == 36 && is_id(word));
    last.filter(|_| !keeps).map(str::to_owned)
}

/// Replaces a word wherever it stands by itself.
pub(super) fn replace_word(text: &str, word: &str, by: &str) -> String {
    let mut replaced = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(word) {
        let (before, found) = rest.split_at(at);
        let behind = &found[word.len()..];
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-' || c == '$';
        let stands_alone = !before.ends_with(is_part) && !behind.starts_with(is_part);
        replaced.push_str(before);
        replaced.push_str(if stands_alone { by } else { word });
        rest = behind;
    }
    replaced + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "01a20cb4-b840-718e-a70e-507aa6555c02";
    const TWO: &str = "01a20cb4-b840-718e-a70e-507aa6555c03";

    #[test]
    fn an_id_is_that_of_the_record_the_first_of_a_list_or_the_last_one() {
        let id = |shown: &str| named_id(shown, false);
        assert_eq!(id(&format!("task {ONE}\nnow {TWO}.\n")).unwrap(), TWO);
        assert_eq!(id(&format!("id  status\n{ONE} x\n{TWO} y\n")).unwrap(), ONE);
        assert_eq!(id("id status\n01a20cb4-b84 x\n").unwrap(), "01a20cb4-b84");
        assert_eq!(id(&format!("id      {ONE}\nparent  {TWO}\n")).unwrap(), ONE);
        assert_eq!(id("nothing"), None);
        assert_eq!(named_id(&format!("task {TWO}\n"), true), None);
        assert_eq!(named_id(&format!("id {TWO}\n"), true).unwrap(), TWO);
    }

    #[test]
    fn only_the_whole_word_is_an_id() {
        let replaced = replace_word("--watch ID | x/ID.json $ID IDS \"ID\"", "ID", "1");
        assert_eq!(replaced, "--watch 1 | x/1.json $ID IDS \"1\"");
    }

    #[test]
    fn an_ampersand_alone_starts_a_job() {
        for text in ["a &", "a > b 2>&1 &", "a & b &"] {
            assert!(starts_job(text), "{text}");
        }
        for text in [
            "a && b",
            "a '&'",
            "curl \"x?a&b\"",
            "a 2>&1",
            "a &> b",
            "a # &",
        ] {
            assert!(!starts_job(text), "{text}");
        }
    }

    #[test]
    fn only_what_changes_nothing_is_repeated() {
        for text in [
            "x --tasks | cat",
            "curl -s http://x/",
            "cat x.log",
            "x --watch ID",
        ] {
            assert!(only_lists(text), "{text}");
        }
        for text in [
            "curl -X POST http://x",
            "curl -d a http://x",
            "x --retry ID",
            "cat > x",
        ] {
            assert!(!only_lists(text), "{text}");
        }
    }
}
