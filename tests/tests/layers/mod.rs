//! The architecture, held by a test: what may import what, and that no files import each other.

mod imports;
mod length;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use imports::Sources;

/// The layers of the library. A folder imports only from those above it. `ARCHITECTURE.md` shows the
/// same list.
const LAYERS: [&str; 20] = [
    "model",
    "protocol",
    "config",
    "runtime",
    "engine",
    "store",
    "security",
    "peers",
    "commit",
    "http",
    "services",
    "inbox",
    "outbox",
    "maintenance",
    "operator",
    "api",
    "worker",
    "server",
    "logging",
    "cli",
];

fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests
        .parent()
        .expect("the tests are in a workspace")
        .to_owned()
}

fn library() -> Sources {
    Sources::read(&root().join("frestq/src"))
}

/// The layer of a file, by its place in the list; none for `lib.rs`.
fn layer(file: &Path) -> Option<usize> {
    let first = file.components().next()?.as_os_str().to_str()?;
    let name = first.trim_end_matches(".rs");
    if name == "lib" || name == "guide" {
        return None;
    }
    let place = LAYERS.iter().position(|layer| *layer == name);
    Some(place.unwrap_or_else(|| panic!("{} is in no layer", file.display())))
}

#[test]
fn no_import_runs_up() {
    let imports = library().imports();
    assert!(
        imports.len() > 100,
        "only {} imports were found",
        imports.len()
    );
    let up: Vec<_> = imports
        .iter()
        .filter(|(from, to)| match (layer(from), layer(to)) {
            (Some(from), Some(to)) => to > from,
            // Only the root re-exports everything; nobody imports from it.
            (Some(_), None) => true,
            (None, _) => false,
        })
        .map(|(from, to)| format!("{} imports from {}", from.display(), to.display()))
        .collect();
    assert!(up.is_empty(), "imports that run up:\n{}", up.join("\n"));
}

#[test]
fn no_files_import_each_other() {
    for folder in ["frestq/src", "frestq-macros/src"] {
        let sources = Sources::read(&root().join(folder));
        let circles = circles(&sources.imports());
        assert!(
            circles.is_empty(),
            "circles in {folder}:\n{}",
            circles.join("\n")
        );
    }
}

/// The circles among imports, each as the files in it.
fn circles(imports: &BTreeSet<(PathBuf, PathBuf)>) -> Vec<String> {
    let mut below: BTreeMap<&Path, BTreeSet<&Path>> = BTreeMap::new();
    for (from, to) in imports {
        below.entry(from).or_default().insert(to);
    }
    let reachable = |start: &Path| {
        let mut seen = BTreeSet::new();
        let mut open = vec![start];
        while let Some(file) = open.pop() {
            for &next in below.get(file).into_iter().flatten() {
                if seen.insert(next) {
                    open.push(next);
                }
            }
        }
        seen
    };
    let reached: BTreeMap<&Path, BTreeSet<&Path>> =
        below.keys().map(|file| (*file, reachable(file))).collect();
    let mut told = BTreeSet::new();
    let mut circles = Vec::new();
    for (file, seen) in &reached {
        if !seen.contains(file) || told.contains(file) {
            continue;
        }
        let mut circle: Vec<&Path> = seen
            .iter()
            .copied()
            .filter(|other| reached.get(other).is_some_and(|seen| seen.contains(file)))
            .collect();
        circle.sort();
        told.extend(circle.iter().copied());
        let arrows = imports
            .iter()
            .filter(|(from, to)| circle.contains(&from.as_path()) && circle.contains(&to.as_path()))
            .map(|(from, to)| format!("  {} -> {}", from.display(), to.display()));
        circles.push(arrows.collect::<Vec<_>>().join("\n"));
    }
    circles
}

#[test]
fn each_folder_says_what_it_is_for_and_what_it_may_import() {
    for file in library().files() {
        if !file.ends_with("mod.rs") || file.components().count() != 2 {
            continue;
        }
        let text = std::fs::read_to_string(root().join("frestq/src").join(&file)).unwrap();
        let doc: String = text.lines().take_while(|l| l.starts_with("//!")).collect();
        assert!(
            doc.contains("ay import") || doc.contains("Imports nothing"),
            "{} does not say what it may import",
            file.display()
        );
    }
}

#[test]
fn the_architecture_page_shows_the_same_layers() {
    let page = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let shown: Vec<&str> = page
        .lines()
        .skip_while(|line| *line != "```layers")
        .skip(1)
        .take_while(|line| *line != "```")
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(shown, LAYERS);
}

#[test]
fn no_function_is_long_without_a_reason() {
    let long = length::long_functions(&root());
    assert!(long.is_empty(), "long functions:\n{}", long.join("\n"));
}

#[test]
fn circles_are_found_also_behind_re_exports() {
    let folder = std::env::temp_dir().join(format!("frestq-layers-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("a")).unwrap();
    let write = |file: &str, text: &str| std::fs::write(folder.join(file), text).unwrap();
    write("lib.rs", "mod a; mod b; pub use a::One;");
    write("a/mod.rs", "mod one; pub use one::One;");
    write(
        "a/one.rs",
        "pub struct One; fn f() { let _ = crate::b::nested::Two; }",
    );
    write(
        "b.rs",
        "pub mod nested { pub struct Two; fn f(_: crate::One) {} }",
    );
    let found = circles(&Sources::read(&folder).imports());
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(found, ["  a/one.rs -> b.rs\n  b.rs -> a/one.rs"]);
}
