//! Suggestions for unknown keys: the nearest known key, spelled as its source needs it.

use super::{
    keys::{Key, NAME},
    section::APP,
};

/// Formats a path for one kind of source.
pub(super) type Spelling = dyn Fn(&[&str]) -> String;

/// The path of a key in a file.
pub(super) fn in_file(path: &[&str]) -> String {
    path.join(".")
}

/// The error for an unknown key `name` below `path`, with a suggestion.
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
        // If the application had settings, this key would be known.
        return format!(
            "unknown key `{wrong}`: this application has no settings of its own; declare them with `.settings::<T>()`"
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
            // The right name in the wrong table, or joined to its table's name by an underscore.
            let paths = all.paths();
            let joined: Vec<_> = paths.iter().map(|path| path.join("_")).collect();
            let last = paths.iter().map(|p| (p[p.len() - 1], p));
            let joined = joined.iter().map(String::as_str).zip(&paths);
            nearest(name, last.chain(joined)).map(|path| spell(path))
        });
    match near {
        Some(near) => format!("unknown key `{wrong}`; did you mean `{near}`?"),
        None => {
            let known: Vec<_> = siblings.iter().map(|k| below(k.0)).collect();
            format!("unknown key `{wrong}`; keys here: {}", known.join(", "))
        }
    }
}

/// The error for a value at `path`, where a table belongs.
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

/// The candidate nearest to `name`, if one is similar enough.
fn nearest<'a, T>(name: &str, candidates: impl Iterator<Item = (&'a str, T)>) -> Option<T> {
    let name = name.to_lowercase();
    let max_distance = (name.chars().count() / 3).max(1);
    candidates
        .map(|(candidate, value)| (strsim::damerau_levenshtein(&name, candidate), value))
        .filter(|(distance, _)| *distance <= max_distance)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, value)| value)
}
