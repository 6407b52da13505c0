//! Loads the configuration from its layers: compiled defaults < file < environment < flags.
//!
//! The file is the one that `FRESTQ_SETTINGS` names, else `frestq.toml` in the working directory,
//! if there is one. In the environment a key is `FRESTQ_` and its name in capitals, and two
//! underscores separate nested names: `FRESTQ_DELIVERY__TIMEOUT=10s`,
//! `FRESTQ_QUEUES__say_queue__CONCURRENCY=3`. A list is written with commas or as in TOML, and a
//! whole table as an inline table: `FRESTQ_QUEUES='{say_queue = {concurrency = 3}}'`.
//!
//! An application's own settings, [`Section`], are below `app` in each layer.
//!
//! All faults are reported together: loading skips a value that can't be used and continues.

use std::{path::PathBuf, sync::Arc};

use serde_json::{Map, Value};
use serde_path_to_error::Segment;

use super::{
    keys::Key,
    layers::{Layers, Leaf, Source, in_environment},
    secrets::{HIDDEN, hidden, is_secret, masked},
    section::{APP, ReadError, Section},
    settings::Config,
};
use crate::model::error::{Error, Result};

/// The name of the file that is read if none is given.
const FILE: &str = "frestq.toml";

/// What the binary reads from its environment, captured once, so that tests can supply their own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment {
    /// The variables of the environment.
    pub(crate) variables: Vec<(String, String)>,
    /// The directory in which `frestq.toml` is looked for.
    pub(crate) directory: PathBuf,
    /// Keys that flags set, with their text.
    pub(crate) flags: Vec<(&'static str, String)>,
}

impl Environment {
    /// The environment of this process.
    pub(crate) fn of_process(flags: Vec<(&'static str, String)>) -> Self {
        let variables = std::env::vars_os()
            .map(|(name, value)| {
                (
                    name.to_string_lossy().into_owned(),
                    value.to_string_lossy().into_owned(),
                )
            })
            .collect();
        Self {
            variables,
            directory: PathBuf::new(),
            flags,
        }
    }

    /// A variable's value, unless it is empty.
    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        self.variables
            .iter()
            .find(|(known, value)| known == name && !value.is_empty())
            .map(|(_, value)| value.as_str())
    }
}

/// A loaded configuration, with the source of each value and the faults.
pub(crate) struct Loaded {
    /// The configuration without the faulty values.
    pub(crate) config: Config,
    /// The application's own settings, if it has any.
    app: Option<Arc<dyn Section>>,
    pub(crate) faults: Vec<String>,
    leaves: Vec<Leaf>,
    keys: Key,
}

/// A value in effect.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    /// Without secrets.
    pub(crate) value: Value,
    pub(crate) source: Source,
}

impl Loaded {
    /// Reads all layers over `compiled` and `app`, the defaults of this binary.
    ///
    /// # Errors
    ///
    /// [`Error::Json`] for defaults that can't be serialized as a table. Faults of the layers are
    /// in [`faults`](Self::faults).
    pub(crate) fn read(
        compiled: &Config,
        app: Option<&Arc<dyn Section>>,
        environment: &Environment,
    ) -> Result<Self> {
        let mut keys = Key::of::<Config>();
        let mut configured = serde_json::to_value(compiled)?;
        let mut default = serde_json::to_value(Config::default())?;
        if let (Some(app), Key::Table(keys)) = (app, &mut keys) {
            keys.push((APP, app.keys()));
            configured[APP] = app.value()?;
            default[APP] = app.default()?;
        }
        let mut layers = Layers::new(&keys);
        layers.compiled(&configured, &default);
        read_file(environment, &mut layers);
        layers.environment(&environment.variables);
        layers.flags(&environment.flags);
        let mut faults = layers.faults;
        let (mut app_leaves, mut leaves): (Vec<_>, Vec<_>) = layers
            .leaves
            .into_iter()
            .partition(|leaf| leaf.path.first().is_some_and(|name| name == APP));
        let read = serde_path_to_error::deserialize;
        let config = assemble(&mut leaves, &[], &mut faults, read);
        let app = app.map(|app| {
            let read = |mut root: Value| app.read(root[APP].take());
            assemble(&mut app_leaves, &[APP], &mut faults, read).unwrap_or_else(|| app.clone())
        });
        leaves.extend(app_leaves);
        Ok(Self {
            config: config.unwrap_or_else(|| compiled.clone()),
            app,
            faults,
            leaves,
            keys,
        })
    }

    /// The configuration, if it has no faults.
    pub(crate) fn into_config(self) -> Result<Config> {
        self.into_parts().map(|(config, _)| config)
    }

    /// The same, with the application's own settings.
    pub(crate) fn into_parts(self) -> Result<(Config, Option<Arc<dyn Section>>)> {
        match self.faults.as_slice() {
            [] => Ok((self.config, self.app)),
            [fault] => Err(Error::Config(fault.clone())),
            faults => Err(Error::Config(format!(
                "{} faults\n  {}",
                faults.len(),
                faults.join("\n  ")
            ))),
        }
    }

    /// Every value in effect, in the order of the fields of [`Config`], the application's own
    /// last.
    pub(crate) fn entries(&self) -> Result<Vec<Entry>> {
        let mut value = serde_json::to_value(&self.config)?;
        if let Some(app) = &self.app {
            value[APP] = app.value()?;
        }
        let mut in_effect = Layers::new(&self.keys);
        in_effect.compiled(&value, &Value::Null);
        let entries = in_effect.leaves.into_iter().map(|leaf| {
            let given = self.leaves.iter().rev().find(|l| l.path == leaf.path);
            let name = leaf.path.last().map_or("", String::as_str);
            let key = leaf.path.join(".");
            let (value, source) = match (&leaf.value, self.derived(&key)) {
                (Value::Null, Some((value, source))) => (value, source),
                _ => (
                    leaf.value,
                    given.map_or(Source::Default, |l| l.source.clone()),
                ),
            };
            Entry {
                value: match is_hidden(&leaf.path) {
                    true => hidden(&value),
                    false => masked(name, &value),
                },
                key,
                source,
            }
        });
        Ok(entries.collect())
    }

    /// The value in effect for a key that is not set but derived from others.
    fn derived(&self, key: &str) -> Option<(Value, Source)> {
        match key {
            "root_url" => {
                let url = self.config.root_url().ok()?;
                Some((url.to_string().into(), Source::Follows("port")))
            }
            "bind" => Some((
                self.config.bind().to_string().into(),
                Source::Follows("port"),
            )),
            "database" => Some((
                self.config.database().into(),
                Source::Follows("the binary's name"),
            )),
            "audit" => Some((self.config.audits().into(), Source::Follows("tls"))),
            _ => None,
        }
    }
}

fn read_file(environment: &Environment, layers: &mut Layers<'_>) {
    let named = environment.variable("FRESTQ_SETTINGS");
    let path = environment.directory.join(named.unwrap_or(FILE));
    match std::fs::read_to_string(&path) {
        Ok(text) => layers.file(&path, &text),
        Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => {
            let origin = named.map_or("", |_| " (named by FRESTQ_SETTINGS)");
            layers.faults.push(format!(
                "{}: the file can't be read{origin}: {error}",
                path.display()
            ));
        }
    }
}

/// Whether a value is a secret because of the name of a table that contains it. Of an
/// application's settings only the names are known. In the library's own tables, names of peers
/// and queues don't indicate secrets.
fn is_hidden(path: &[String]) -> bool {
    path.first().is_some_and(|name| name == APP) && path.iter().any(|name| is_secret(name))
}

/// Merges the layers and reads the value below `prefix` from the result. A value that its type
/// rejects is reported and left out.
fn assemble<T>(
    leaves: &mut Vec<Leaf>,
    prefix: &[&str],
    faults: &mut Vec<String>,
    read: impl Fn(Value) -> Result<T, ReadError>,
) -> Option<T> {
    let mut reported: Vec<Vec<String>> = Vec::new();
    loop {
        let error = match read(merge(leaves)) {
            Ok(value) => return Some(value),
            Err(error) => error,
        };
        let below = error.path().iter().map_while(|segment| match segment {
            Segment::Map { key } => Some(key.clone()),
            _ => None,
        });
        let prefix = prefix.iter().map(|name| (*name).to_owned());
        let path: Vec<String> = prefix.chain(below).collect();
        let related = |other: &[String]| other.starts_with(&path) || path.starts_with(other);
        let culprit = leaves.iter().rposition(|leaf| related(&leaf.path))?;
        // The table of a removed value may lack it now: that is not a second fault.
        if !reported.iter().any(|earlier| related(earlier)) {
            faults.push(describe_fault(
                &leaves[culprit],
                &path,
                &error.inner().to_string(),
            ));
            reported.push(path);
        }
        leaves.remove(culprit);
    }
}

/// Describes a fault: the source of the value, its key, and the error.
fn describe_fault(leaf: &Leaf, path: &[String], message: &str) -> String {
    let names: Vec<_> = path.iter().map(String::as_str).collect();
    let key = match &leaf.source {
        Source::Variable(name) if *name == in_environment(&names) => String::new(),
        _ => format!("{}: ", path.join(".")),
    };
    let name = names.last().copied().unwrap_or_default();
    let secret = is_secret(name) || is_hidden(path) || is_hidden(&leaf.path);
    let message = match &leaf.value {
        // A type's error may repeat the value.
        _ if !secret => message.to_owned(),
        Value::String(text) if !text.is_empty() => message.replace(text.as_str(), HIDDEN),
        Value::String(_) | Value::Null => message.to_owned(),
        _ => "invalid value".to_owned(),
    };
    let value = match masked(name, &leaf.value) {
        _ if secret => String::new(),
        // Not every type's error repeats the value.
        Value::String(text) if leaf.path == path && !message.contains(&text) => {
            format!(": {text:?}")
        }
        _ => String::new(),
    };
    format!("{}: {key}{}{value}", leaf.source, in_words(&message))
}

/// Replaces Rust's names of types by words for operators.
fn in_words(message: &str) -> String {
    let Some((start, expected)) = message.rsplit_once("expected ") else {
        return message.to_owned();
    };
    let expected = match expected {
        "u8" => "a whole number up to 255",
        "u16" => "a whole number up to 65535",
        "u32" | "u64" | "usize" => "a whole number, 0 or more",
        "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        other => other,
    };
    format!("{start}expected {expected}")
}

/// Merges all layers into one tree; later ones override earlier ones.
fn merge(leaves: &[Leaf]) -> Value {
    let mut root = Value::Object(Map::new());
    for leaf in leaves {
        let mut place = &mut root;
        for name in &leaf.path {
            if !place.is_object() {
                *place = Value::Object(Map::new());
            }
            place = &mut place[name.as_str()];
        }
        // An empty table keeps what an earlier layer put into it.
        let only_named = leaf.value.as_object().is_some_and(Map::is_empty);
        if !(only_named && place.is_object()) {
            *place = leaf.value.clone();
        }
    }
    root
}
