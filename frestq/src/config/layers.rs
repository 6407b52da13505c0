//! The layers of the configuration, each as a list of values with their paths and sources.

use std::{fmt, ops::Range, path::Path};

use serde_json::{Map, Value};
use toml::de::{DeTable, DeValue};

use super::{
    keys::{Key, Kind},
    suggest,
};

/// What every variable of the environment starts with.
pub(super) const PREFIX: &str = "FRESTQ_";
/// Separates the names of a nested key; many names contain a single underscore.
const SEPARATOR: &str = "__";

/// The source of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The library's default.
    Default,
    /// `App::configure`.
    Binary,
    /// The configuration file, and the line.
    File(String, usize),
    /// A variable of the environment.
    Variable(String),
    /// A flag of the command line.
    Flag(String),
    /// Derived from another key.
    Follows(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Default => f.write_str("default"),
            Source::Binary => f.write_str("set by this binary"),
            Source::File(path, line) => write!(f, "{path}:{line}"),
            Source::Variable(name) => f.write_str(name),
            Source::Flag(name) => f.write_str(name),
            Source::Follows(key) => write!(f, "follows from {key}"),
        }
    }
}

/// One value of one layer.
#[derive(Clone, Debug)]
pub(super) struct Leaf {
    pub(super) path: Vec<String>,
    pub(super) value: Value,
    pub(super) source: Source,
}

/// Collects the values of the layers, and their faults.
pub(super) struct Layers<'a> {
    keys: &'a Key,
    pub(super) leaves: Vec<Leaf>,
    pub(super) faults: Vec<String>,
}

impl<'a> Layers<'a> {
    pub(super) fn new(keys: &'a Key) -> Self {
        Self {
            keys,
            leaves: Vec::new(),
            faults: Vec::new(),
        }
    }

    /// The compiled defaults: the library's, changed by this binary.
    pub(super) fn compiled(&mut self, configured: &Value, default: &Value) {
        self.flatten(self.keys, configured, Some(default), &mut Vec::new());
    }

    fn flatten(
        &mut self,
        key: &Key,
        value: &Value,
        default: Option<&Value>,
        path: &mut Vec<String>,
    ) {
        if let (Key::Table(_) | Key::Named(_), Value::Object(table)) = (key, value)
            && (!table.is_empty() || path.is_empty())
        {
            for (name, value) in table {
                let Some(key) = key.get(name) else { continue };
                path.push(name.clone());
                self.flatten(key, value, default.and_then(|d| d.get(name)), path);
                path.pop();
            }
            return;
        }
        self.leaves.push(Leaf {
            path: path.clone(),
            value: value.clone(),
            source: if default == Some(value) {
                Source::Default
            } else {
                Source::Binary
            },
        });
    }

    /// A file's text.
    pub(super) fn file(&mut self, path: &Path, text: &str) {
        let name = path.display().to_string();
        let line =
            |span: Range<usize>| text[..span.start.min(text.len())].matches('\n').count() + 1;
        match DeTable::parse(text) {
            Ok(table) => {
                let source = |span| Source::File(name.clone(), line(span));
                let table = table.get_ref();
                self.table(self.keys, table, &mut Vec::new(), source(0..0), &source);
            }
            Err(error) => {
                let place = error.span().map_or(1, line);
                let remedy = match path.extension().and_then(|e| e.to_str()) {
                    Some("py") => {
                        "; settings are TOML, as in `database = \"sqlite:peer.sqlite\"`, not Python"
                    }
                    _ => "",
                };
                self.faults.push(format!(
                    "{name}:{place}: not valid TOML: {}{remedy}",
                    error.message()
                ));
            }
        }
    }

    fn table(
        &mut self,
        key: &Key,
        table: &DeTable<'_>,
        path: &mut Vec<String>,
        here: Source,
        source: &dyn Fn(Range<usize>) -> Source,
    ) {
        if table.is_empty() && !path.is_empty() {
            // A named queue or peer that keeps the defaults.
            self.leaves.push(Leaf {
                path: path.clone(),
                value: Value::Object(Map::new()),
                source: here,
            });
        }
        for (name, value) in table {
            let here = source(name.span());
            let name = name.get_ref();
            let Some(key) = key.get(name) else {
                let why = suggest::unknown(self.keys, key, path, name, &suggest::in_file);
                self.faults.push(format!("{here}: {why}"));
                continue;
            };
            path.push(name.to_string());
            match (key, value.get_ref()) {
                (Key::Table(_) | Key::Named(_), DeValue::Table(table)) => {
                    self.table(key, table, path, here, source);
                }
                (Key::Table(_) | Key::Named(_), other) => {
                    let why = suggest::no_table(key, path, other.type_str(), &suggest::in_file);
                    self.faults.push(format!("{here}: {why}"));
                }
                (Key::Value(_), value) => self.leaves.push(Leaf {
                    path: path.clone(),
                    value: plain(value),
                    source: here,
                }),
            }
            path.pop();
        }
    }

    /// The variables of the environment that start with `FRESTQ_`.
    pub(super) fn environment(&mut self, variables: &[(String, String)]) {
        let mut prefixed: Vec<_> = variables
            .iter()
            .filter_map(|(name, value)| Some((name, name.strip_prefix(PREFIX)?, value)))
            .filter(|(_, key, value)| {
                // Many tools set an empty variable where they mean none.
                !value.is_empty()
                    && !matches!(*key, "SETTINGS" | "LOG")
                    && !key.starts_with("TEST_")
            })
            .collect();
        // The environment has no order; the list of faults should have one.
        prefixed.sort();
        for (name, key, value) in prefixed {
            if let Err(why) = self.variable(name, key, value) {
                self.faults.push(format!("{name}: {why}"));
            }
        }
    }

    fn variable(&mut self, variable: &str, name: &str, text: &str) -> Result<(), String> {
        let mut key = self.keys;
        let mut path = Vec::new();
        for part in name.split(SEPARATOR) {
            let part = match key {
                // A name that the operator chose may be in mixed case.
                Key::Named(_) if part.chars().any(char::is_lowercase) => part.to_owned(),
                Key::Table(keys) => keys
                    .iter()
                    .find(|(known, _)| known.eq_ignore_ascii_case(part))
                    .map_or_else(|| part.to_lowercase(), |(known, _)| (*known).to_owned()),
                _ => part.to_lowercase(),
            };
            key = key
                .get(&part)
                .ok_or_else(|| suggest::unknown(self.keys, key, &path, &part, &in_environment))?;
            path.push(part);
        }
        let source = Source::Variable(variable.to_owned());
        let value = match key {
            Key::Value(kind) => read(*kind, text),
            Key::Table(_) | Key::Named(_) => {
                let parsed = DeValue::parse(text).ok();
                let Some(DeValue::Table(table)) = parsed.as_ref().map(|v| v.get_ref()) else {
                    return Err(suggest::no_table(key, &path, "text", &in_environment));
                };
                self.table(key, table, &mut path, source.clone(), &|_| source.clone());
                return Ok(());
            }
        };
        self.leaves.push(Leaf {
            path,
            value,
            source,
        });
        Ok(())
    }

    /// The values of flags; `--root-url` sets `root_url`.
    pub(super) fn flags(&mut self, flags: &[(&'static str, String)]) {
        for (name, text) in flags {
            let source = Source::Flag(format!("--{}", name.replace('_', "-")));
            if let Some(Key::Value(kind)) = self.keys.get(name) {
                self.leaves.push(Leaf {
                    path: vec![(*name).to_owned()],
                    value: read(*kind, text),
                    source,
                });
            }
        }
    }
}

/// The variable that sets a key.
pub(super) fn in_environment(path: &[&str]) -> String {
    let parts = path.iter().map(|part| {
        // The case of a name that the operator chose matters; all other names are lower case.
        match part.chars().any(char::is_uppercase) {
            true => (*part).to_owned(),
            false => part.to_uppercase(),
        }
    });
    format!("{PREFIX}{}", parts.collect::<Vec<_>>().join(SEPARATOR))
}

/// Parses the text of a variable or flag as the kind of its key. Text that can't be parsed stays
/// text: the type's own error says best what it expects.
fn read(kind: Kind, text: &str) -> Value {
    let toml = || DeValue::parse(text).map_or_else(|_| text.into(), |value| plain(value.get_ref()));
    match kind {
        Kind::Text => text.into(),
        Kind::Flag => match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => true.into(),
            "false" | "0" | "no" | "off" => false.into(),
            _ => text.into(),
        },
        Kind::Number => number(text),
        Kind::List if !text.starts_with('[') => text.split(',').map(str::trim).collect(),
        Kind::List => toml(),
        Kind::Any if text.starts_with(['[', '{']) => toml(),
        Kind::Any => text.into(),
    }
}

fn number(text: &str) -> Value {
    let plain = text.replace('_', "");
    if let Ok(number) = plain.parse::<i64>() {
        return number.into();
    }
    if let Ok(number) = plain.parse::<u64>() {
        return number.into();
    }
    plain
        .parse::<f64>()
        .map_or_else(|_| text.into(), Value::from)
}

/// A TOML value as JSON.
fn plain(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => text.as_ref().into(),
        DeValue::Integer(digits) => match i64::from_str_radix(digits.as_str(), digits.radix()) {
            Ok(number) => number.into(),
            Err(_) => u64::from_str_radix(digits.as_str(), digits.radix())
                .map_or_else(|_| digits.as_str().into(), Value::from),
        },
        DeValue::Float(digits) => number(digits.as_str()),
        DeValue::Boolean(flag) => (*flag).into(),
        DeValue::Datetime(datetime) => datetime.to_string().into(),
        DeValue::Array(values) => values.iter().map(|v| plain(v.get_ref())).collect(),
        DeValue::Table(table) => Value::Object(
            table
                .iter()
                .map(|(name, value)| (name.get_ref().to_string(), plain(value.get_ref())))
                .collect(),
        ),
    }
}
