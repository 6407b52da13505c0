//! The documentation: every shell command of the README and the guide is run, in order, as typed,
//! and what the pages show of the output is compared.
//!
//! How a page is written, so that it can be run:
//!
//! * A block ` ```sh ` holds commands that are typed into a bash session. All such blocks of a page
//!   are one session, which begins in the root of the clone. ` ```sh terminal=NAME ` goes to another
//!   one, which starts in the directory that the first is in at that point. The last command of such
//!   a block may go on, as a peer in the foreground does; the next block for the same terminal stops
//!   it with Ctrl-C. All that still runs is killed at the end of the page.
//! * A block ` ```text ` below, after at most one line of prose, is what the last command of the
//!   `sh` block prints on a terminal of 100 columns. A line `...` stands for any lines. Ids, dates,
//!   times, durations, process ids, fingerprints and hashes are not compared, nor are runs of spaces
//!   and the part of a word behind `…`. Where a command only lists, it is repeated until it shows
//!   that, for 30 s. A listing without such a block has to list something.
//! * `ID` in a command is the task that was named last: the record that a command has shown, the
//!   first row of a listing, or the last id in any other output.
//! * Any other block below a line that ends in "`PATH`:" is that file. It is written in the session's
//!   directory before the next command runs.
//! * After `peer &` the next command runs once the peer's log says that it serves, and after
//!   `kill %1` or `kill $(jobs -p)` once those processes have ended.
//! * Each command has to succeed, unless it has the comment `# exits with 1`, or the block below
//!   shows how it fails.
//!
//! These are not run as typed: `cargo test --workspace`, `.ci/run` and the benchmark are skipped.
//! Other commands of cargo build in the target directory of this test, offline, with the profile and
//! the lock file of the workspace, so that nothing is built twice. A page with nginx runs if
//! `FRESTQ_TEST_NGINX` names one. The ports in pages are fixed, so one page runs at a time.

mod commands;
mod comparing;
mod page;
mod parser;
mod session;
mod terminal;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::harness::Folder;

/// The pages with commands, a test each.
macro_rules! pages {
    ($($test:ident: $page:literal,)*) => {
        const PAGES: &[&str] = &[$($page),*];

        mod commands_of {
            $(
                #[test]
                fn $test() {
                    super::run($page);
                }
            )*
        }
    };
}

pages! {
    readme: "README.md",
    behind_a_proxy: "frestq/docs/behind-a-proxy.md",
    command_line: "frestq/docs/command-line.md",
    configuration: "frestq/docs/configuration.md",
    errors_and_retries: "frestq/docs/errors-and-retries.md",
    peers_and_certificates: "frestq/docs/peers-and-certificates.md",
    trees: "frestq/docs/trees.md",
    embedding: "frestq/docs/embedding.md",
    tutorial: "frestq/docs/tutorial.md",
}

fn run(page: &str) {
    // One at a time, also of several runs of the tests.
    let lock = File::create(std::env::temp_dir().join("frestq-test-docs.lock")).unwrap();
    lock.lock().unwrap();
    let clone = clone();
    let text = fs::read_to_string(clone.join(page)).unwrap_or_else(|e| panic!("{page}: {e}"));
    let folder = Folder::new();
    page::run(page, &text, &folder, &clone);
}

/// The root of the clone.
fn clone() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap().to_owned()
}

/// Waits until `look` finds something.
fn within<T>(patience: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {patience:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The pages that a reader is led to, by their paths in the clone.
fn all_pages() -> Vec<(String, String)> {
    let clone = clone();
    let mut pages = vec!["README.md".to_owned()];
    pages.extend(["ARCHITECTURE.md", "CONTRIBUTING.md"].map(str::to_owned));
    let mut folders = vec!["frestq/docs".to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(clone.join(&folder)).into_iter().flatten() {
            let entry = entry.unwrap();
            let path = format!("{folder}/{}", entry.file_name().to_str().unwrap());
            if entry.file_type().unwrap().is_dir() {
                folders.push(path);
            } else if path.ends_with(".md") {
                pages.push(path);
            }
        }
    }
    let read = |page: String| Some((fs::read_to_string(clone.join(&page)).ok()?, page));
    let pages = pages.into_iter().filter_map(read);
    pages.map(|(text, page)| (page, text)).collect()
}

#[test]
fn every_page_of_the_guide_with_commands_is_run() {
    let is_shell = |block: &parser::Block| matches!(block, parser::Block::Shell { .. });
    for (page, text) in all_pages() {
        let is_missing = page.starts_with("frestq/docs/")
            && !PAGES.contains(&&*page)
            && parser::parse(&text).iter().any(is_shell);
        assert!(!is_missing, "{page} has commands: add it to `pages!`");
    }
}

#[test]
fn the_readme_is_a_front_page() {
    let readme = fs::read_to_string(clone().join("README.md")).unwrap();
    let lines = readme.lines().count();
    assert!(lines <= 150, "README.md has {lines} lines, of 150 at most");
}

#[test]
fn lines_end_before_column_100() {
    let mut long = Vec::new();
    for (page, text) in all_pages() {
        let prose = prose(&text);
        let is_long = |line: &&(usize, &str)| line.1.chars().count() >= 100;
        for (number, _) in prose.iter().filter(is_long) {
            long.push(format!("{page}:{number}"));
        }
    }
    assert!(long.is_empty(), "too long:\n{}", long.join("\n"));
}

#[test]
fn links_between_pages_lead_to_files() {
    let mut broken = Vec::new();
    for (page, text) in all_pages() {
        let path = clone().join(&page);
        for (number, line) in prose_and_tables(&text) {
            for link in links(line) {
                let file = link.split('#').next().unwrap();
                // An item of rustdoc is for rustdoc to check.
                let is_relative = !file.is_empty() && !file.contains(':');
                if is_relative && !path.parent().unwrap().join(file).exists() {
                    broken.push(format!("{page}:{number}: {link}"));
                }
            }
        }
    }
    assert!(
        broken.is_empty(),
        "they lead nowhere:\n{}",
        broken.join("\n")
    );
}

/// The lines of a page outside of blocks, with their numbers.
fn prose_and_tables(page: &str) -> Vec<(usize, &str)> {
    let mut in_block = false;
    let mut lines = Vec::new();
    for (number, line) in (1..).zip(page.lines()) {
        let is_fence = line.trim_start().starts_with("```");
        in_block ^= is_fence;
        if !in_block && !is_fence {
            lines.push((number, line));
        }
    }
    lines
}

/// The lines of a page outside of blocks and tables, with their numbers.
fn prose(page: &str) -> Vec<(usize, &str)> {
    let mut lines = prose_and_tables(page);
    lines.retain(|(_, line)| !line.trim_start().starts_with('|'));
    lines
}

/// Where the links of a line lead.
fn links(line: &str) -> Vec<&str> {
    let starts = line.match_indices("](");
    let links = starts.filter_map(|(at, _)| {
        let target = &line[at + 2..];
        Some(&target[..target.find(')')?])
    });
    links.collect()
}

#[test]
fn the_commands_of_a_page_are_run_as_typed() {
    let folder = Folder::new();
    let page = include_str!("docs/sample.md");
    page::run("sample.md", page, &folder, &clone());
}

#[test]
#[should_panic(expected = "page.md:5: echo one\n- two\n+ one\n")]
fn an_output_that_the_page_does_not_have_is_shown_with_its_line() {
    let folder = Folder::new();
    let page = "```sh\necho one\n```\n\n```text\ntwo\n```\n";
    page::run("page.md", page, &folder, &clone());
}
