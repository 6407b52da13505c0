//! What an unknown key is answered with: the nearest one that exists, spelled for where it is
//! needed.

use super::{
    keys::{Key, NAME},
    section::APP,
};

/// How a path is written down.
pub(super) type Spelling = dyn Fn(&[&str]) -> String;

/// The path of a key in a file.
pub(super) fn in_file(path: &[&str]) -> String {
    path.join(".")
}

/// Why `name` can't stand below `path`, and what was probably meant.
pub(super) fn unknown(
    all: &Key,
    parent: &Key,
    path: &[String],
    name: &str,
    spell: &Spelling,
) -> String {
    let below = |name| {
        let mut full: Vec<&str> = path.iter().map(String::as_str).collect();
        full.push(name);
        spell(&full)
    };
    let wrong = below(name);
    if path.is_empty() && name == APP {
        // With settings, it is a known key.
        return format!(
            "unknown key `{wrong}`: this application has no settings of its own; it gets them by `.settings::<T>()`"
        );
    }
    let Key::Table(siblings) = parent else {
        let value: Vec<_> = path.iter().map(String::as_str).collect();
        return format!(
            "unknown key `{wrong}`: `{}` is a value and has no keys of its own",
            spell(&value)
        );
    };
    let near = nearest(name, siblings.iter().map(|k| (k.0, k.0)))
        .map(below)
        .or_else(|| {
            // The right name in the wrong table, or with its table's name glued to it.
            let paths = all.paths();
            let glued: Vec<_> = paths.iter().map(|path| path.join("_")).collect();
            let last = paths.iter().map(|p| (p[p.len() - 1], p));
            let glued = glued.iter().map(String::as_str).zip(&paths);
            nearest(name, last.chain(glued)).map(|path| spell(path))
        });
    match near {
        Some(near) => format!("unknown key `{wrong}`; did you mean `{near}`?"),
        None => {
            let known: Vec<_> = siblings.iter().map(|k| below(k.0)).collect();
            format!("unknown key `{wrong}`; keys here: {}", known.join(", "))
        }
    }
}

/// Why something that is no table can't stand at `path`.
pub(super) fn no_table(key: &Key, path: &[String], found: &str, spell: &Spelling) -> String {
    let mut full: Vec<_> = path.iter().map(String::as_str).collect();
    let here = spell(&full);
    let first = match key {
        Key::Table(keys) => keys.first().map_or(NAME, |k| k.0),
        _ => NAME,
    };
    full.push(first);
    format!(
        "`{here}` is a table, found {found}; set the keys in it, such as `{}`",
        spell(&full)
    )
}

/// The candidate most like `name`, unless none is like it.
fn nearest<'a, T>(name: &str, candidates: impl Iterator<Item = (&'a str, T)>) -> Option<T> {
    let name = name.to_lowercase();
    let far = (name.chars().count() / 3).max(1);
    candidates
        .map(|(candidate, value)| (strsim::damerau_levenshtein(&name, candidate), value))
        .filter(|(distance, _)| *distance <= far)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, value)| value)
}
