//! Reads a page of Markdown: its shell commands, what they print, and the files that it shows.

use std::{
    path::PathBuf,
    process::{Command as Process, Stdio},
};

/// A fenced block of a page that a session acts on, in the page's order.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Block {
    /// Commands that are typed into a session.
    Shell {
        /// The session's name; `None` is the main one.
        terminal: Option<String>,
        commands: Vec<Command>,
        /// What the last command prints.
        printed: Option<Printed>,
    },
    /// A file that the reader writes.
    File {
        line: usize,
        path: PathBuf,
        text: String,
    },
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Command {
    /// The number of its first line on the page.
    pub(super) line: usize,
    pub(super) text: String,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Printed {
    pub(super) line: usize,
    pub(super) text: String,
}

/// A fenced block as it stands on the page.
#[derive(Debug)]
pub(super) struct Fence<'a> {
    /// The number of the opening line, from 1.
    pub(super) line: usize,
    pub(super) info: &'a str,
    pub(super) text: String,
    /// The lines between the previous block and this one, without blank ones.
    pub(super) before: Vec<&'a str>,
}

impl Fence<'_> {
    fn language(&self) -> &str {
        let end = self.info.find([' ', ',']).unwrap_or(self.info.len());
        &self.info[..end]
    }
}

/// The blocks of a page that a session acts on.
///
/// # Panics
///
/// If the page is not as the rules in [`super`] want it.
pub(super) fn parse(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut after_shell = false;
    for fence in fences(page) {
        let follows_shell = std::mem::take(&mut after_shell) && fence.before.len() <= 1;
        match fence.language() {
            "sh" => {
                let terminal = fence.info.split(' ').find_map(|word| {
                    let name = word.strip_prefix("terminal=")?;
                    Some(name.to_owned())
                });
                blocks.push(Block::Shell {
                    terminal,
                    commands: commands(&fence),
                    printed: None,
                });
                after_shell = true;
            }
            "text" => {
                if let (true, Some(Block::Shell { printed, .. })) =
                    (follows_shell, blocks.last_mut())
                {
                    *printed = Some(Printed {
                        line: fence.line,
                        text: fence.text,
                    });
                }
            }
            language => {
                if let Some(path) = fence.before.last().and_then(|line| named_file(line)) {
                    let text = match language {
                        "rust" => without_hidden_lines(&fence.text),
                        _ => fence.text,
                    };
                    blocks.push(Block::File {
                        line: fence.line,
                        path,
                        text,
                    });
                }
            }
        }
    }
    blocks
}

/// All fenced blocks of a page.
pub(super) fn fences(page: &str) -> Vec<Fence<'_>> {
    let mut fences = Vec::new();
    let mut before = Vec::new();
    let mut lines = (1..).zip(page.lines());
    while let Some((line, text)) = lines.next() {
        let ticks = text.trim_start();
        let length = ticks.len() - ticks.trim_start_matches('`').len();
        if length < 3 {
            if !ticks.is_empty() {
                before.push(text);
            }
            continue;
        }
        let indent = text.len() - ticks.len();
        let mut block = String::new();
        let mut closed = false;
        for (_, text) in lines.by_ref() {
            let inner = text.trim();
            if inner.len() >= length && inner.chars().all(|c| c == '`') {
                closed = true;
                break;
            }
            let spaces = text.len() - text.trim_start_matches(' ').len();
            block.push_str(&text[spaces.min(indent)..]);
            block.push('\n');
        }
        assert!(closed, "line {line}: the block is never closed");
        fences.push(Fence {
            line,
            info: ticks[length..].trim(),
            text: block,
            before: std::mem::take(&mut before),
        });
    }
    fences
}

/// The file that a line ending in "`PATH`:" names. An absolute path is no file of the session.
fn named_file(line: &str) -> Option<PathBuf> {
    let name = line.trim_end().strip_suffix("`:")?;
    let name = &name[name.rfind('`')? + 1..];
    let is_path = name.contains(['.', '/'])
        && !name.starts_with('/')
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c));
    is_path.then(|| PathBuf::from(name))
}

/// What rustdoc shows of a block of Rust.
fn without_hidden_lines(text: &str) -> String {
    let shown = text.lines().filter(|line| {
        let line = line.trim_start();
        line != "#" && !line.starts_with("# ")
    });
    shown.map(|line| format!("{line}\n")).collect()
}

/// The commands of a block: each takes as many lines as bash needs for it.
fn commands(fence: &Fence<'_>) -> Vec<Command> {
    let mut commands: Vec<Command> = Vec::new();
    let mut open: Option<Command> = None;
    for (line, text) in (fence.line + 1..).zip(fence.text.lines()) {
        let command = match open.take() {
            Some(mut command) => {
                command.text.push('\n');
                command.text.push_str(text);
                command
            }
            None if text.trim().is_empty() || text.trim_start().starts_with('#') => continue,
            None => Command {
                line,
                text: text.to_owned(),
            },
        };
        if is_complete(&command.text) {
            commands.push(command);
        } else {
            open = Some(command);
        }
    }
    if let Some(command) = open {
        panic!("line {}: the command has no end", command.line);
    }
    commands
}

/// Whether bash would run this, rather than ask for another line.
fn is_complete(text: &str) -> bool {
    if text.ends_with('\\') {
        return false;
    }
    // Reads without running. A here-document without its end is only a warning.
    let read = Process::new("bash")
        .args(["-n", "-c", text])
        .stdin(Stdio::null())
        .output()
        .expect("bash is there");
    read.status.success() && read.stderr.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(terminal: Option<&str>, commands: &[(usize, &str)]) -> Block {
        let commands = commands.iter().map(|(line, text)| Command {
            line: *line,
            text: (*text).to_owned(),
        });
        Block::Shell {
            terminal: terminal.map(str::to_owned),
            commands: commands.collect(),
            printed: None,
        }
    }

    #[test]
    fn a_command_takes_the_lines_that_it_needs() {
        let page = "```sh\n# a comment\none\ntwo '{\n}'\nthree \\\n  3\n\ncat > x <<'END'\nfour\nEND\nfive &\n```\n";
        let expected = [
            (3, "one"),
            (4, "two '{\n}'"),
            (6, "three \\\n  3"),
            (9, "cat > x <<'END'\nfour\nEND"),
            (12, "five &"),
        ];
        assert_eq!(parse(page), [shell(None, &expected)]);
    }

    #[test]
    fn text_after_at_most_one_line_of_prose_is_what_the_last_command_prints() {
        let printed = |page: &str| match parse(page).remove(0) {
            Block::Shell { printed, .. } => printed.map(|printed| (printed.line, printed.text)),
            Block::File { .. } => panic!("a file"),
        };
        let page = |prose: &str| format!("```sh\none\n```\n{prose}\n```text\n1\n```\n");
        assert_eq!(printed(&page("")), Some((5, "1\n".into())));
        assert_eq!(printed(&page("\nIt prints:\n")), Some((7, "1\n".into())));
        assert_eq!(printed(&page("It says\nmuch more:\n")), None);
        let other = page("```toml\n```");
        assert_eq!(printed(&other), None);
    }

    #[test]
    fn a_block_may_belong_to_another_terminal() {
        let page = "* in a list:\n\n  ```sh terminal=counter\n  one\n  ```\n";
        assert_eq!(parse(page), [shell(Some("counter"), &[(4, "one")])]);
    }

    #[test]
    fn a_block_below_the_name_of_a_file_is_that_file() {
        let page = "This is all of\n`src/a.rs`:\n\n```rust,no_run\n# use hidden;\n#[a]\nb\n```\n";
        let file = Block::File {
            line: 4,
            path: "src/a.rs".into(),
            text: "#[a]\nb\n".into(),
        };
        assert_eq!(parse(page), [file]);
        for no_file in ["`/etc/a.conf`:", "`kill`:", "`a.add(..)`:", "`a.rs` has:"] {
            assert_eq!(parse(&format!("{no_file}\n```toml\n```\n")), []);
        }
    }

    #[test]
    #[should_panic(expected = "line 2: the command has no end")]
    fn a_command_without_an_end_is_an_error() {
        parse("```sh\necho 'one\n```\n");
    }
}
