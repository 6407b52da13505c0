//! Puts the layers together: compiled defaults < file < environment < flags.
//!
//! The file is the one that `FRESTQ_SETTINGS` names, else `frestq.toml` in the working directory,
//! if there is one. In the environment a key is `FRESTQ_` and its name in capitals, and two
//! underscores part nested names: `FRESTQ_DELIVERY__TIMEOUT=10s`,
//! `FRESTQ_QUEUES__say_queue__CONCURRENCY=3`. A list is written with commas or as in TOML, and a
//! whole table as an inline one: `FRESTQ_QUEUES='{say_queue = {concurrency = 3}}'`.
//!
//! An application's own settings, [`Section`], stand below `app` in each layer.
//!
//! Every fault is found in one go: a value that can't be used is left out, and reading goes on.

use std::{path::PathBuf, sync::Arc};

use serde_json::{Map, Value};
use serde_path_to_error::Segment;

use super::{
    keys::Key,
    layers::{Layers, Leaf, Source, in_environment},
    secrets::{HIDDEN, hidden, is_secret, masked},
    section::{APP, Section, Unusable},
    settings::Config,
};
use crate::model::error::{Error, Result};

/// The name of the file that is read where none is given.
const FILE: &str = "frestq.toml";

/// What is outside of the binary, taken once, so that a test can give its own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment {
    /// The environment.
    pub(crate) variables: Vec<(String, String)>,
    /// Where `frestq.toml` is looked for.
    pub(crate) directory: PathBuf,
    /// Keys that flags set, with their text.
    pub(crate) flags: Vec<(&'static str, String)>,
}

impl Environment {
    /// Those of this process.
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

/// The configuration, where each value comes from, and what is wrong with it.
pub(crate) struct Loaded {
    /// Without the values that are faulty.
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
    /// [`Error::Json`] for defaults that can't be written as a table. What is wrong with the
    /// layers is in [`faults`](Self::faults).
    pub(crate) fn read(
        compiled: &Config,
        app: Option<&Arc<dyn Section>>,
        surroundings: &Environment,
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
        read_file(surroundings, &mut layers);
        layers.environment(&surroundings.variables);
        layers.flags(&surroundings.flags);
        let mut faults = layers.faults;
        let (mut own, mut leaves): (Vec<_>, Vec<_>) = layers
            .leaves
            .into_iter()
            .partition(|leaf| leaf.path.first().is_some_and(|name| name == APP));
        let read = serde_path_to_error::deserialize;
        let config = assemble(&mut leaves, &[], &mut faults, read);
        let app = app.map(|app| {
            let read = |mut root: Value| app.read(root[APP].take());
            assemble(&mut own, &[APP], &mut faults, read).unwrap_or_else(|| app.clone())
        });
        leaves.extend(own);
        Ok(Self {
            config: config.unwrap_or_else(|| compiled.clone()),
            app,
            faults,
            leaves,
            keys,
        })
    }

    /// The configuration, if nothing is wrong with what was given.
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
            let (value, source) = match (&leaf.value, self.follows(&key)) {
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

    /// What is in effect for a key that is not set, where other keys decide.
    fn follows(&self, key: &str) -> Option<(Value, Source)> {
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

fn read_file(surroundings: &Environment, layers: &mut Layers<'_>) {
    let named = surroundings.variable("FRESTQ_SETTINGS");
    let path = surroundings.directory.join(named.unwrap_or(FILE));
    match std::fs::read_to_string(&path) {
        Ok(text) => layers.file(&path, &text),
        Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => {
            let who = named.map_or("", |_| " (named by FRESTQ_SETTINGS)");
            layers.faults.push(format!(
                "{}: the file can't be read{who}: {error}",
                path.display()
            ));
        }
    }
}

/// Whether a value is a secret by the name of a table around it. Nothing is known of an
/// application's settings but their names; in our own tables the names of peers and queues mean
/// nothing.
fn is_hidden(path: &[String]) -> bool {
    path.first().is_some_and(|name| name == APP) && path.iter().any(|name| is_secret(name))
}

/// Reads the layers as one, whose root `read` looks for its value below `prefix`; whatever a type
/// refuses is reported and left out.
fn assemble<T>(
    leaves: &mut Vec<Leaf>,
    prefix: &[&str],
    faults: &mut Vec<String>,
    read: impl Fn(Value) -> Result<T, Unusable>,
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
        let guilty = leaves.iter().rposition(|leaf| related(&leaf.path))?;
        // A table that lost a faulty value may lack it now: that is no second fault.
        if !reported.iter().any(|earlier| related(earlier)) {
            faults.push(refused(&leaves[guilty], &path, &error.inner().to_string()));
            reported.push(path);
        }
        leaves.remove(guilty);
    }
}

/// Says where a value stands, which key it is, and what is wrong with it.
fn refused(leaf: &Leaf, path: &[String], message: &str) -> String {
    let names: Vec<_> = path.iter().map(String::as_str).collect();
    let key = match &leaf.source {
        Source::Variable(name) if *name == in_environment(&names) => String::new(),
        _ => format!("{}: ", path.join(".")),
    };
    let name = names.last().copied().unwrap_or_default();
    let secret = is_secret(name) || is_hidden(path) || is_hidden(&leaf.path);
    let message = match &leaf.value {
        // A type's refusal may repeat what it was given.
        _ if !secret => message.to_owned(),
        Value::String(text) if !text.is_empty() => message.replace(text.as_str(), HIDDEN),
        Value::String(_) | Value::Null => message.to_owned(),
        _ => "this can't be used".to_owned(),
    };
    let value = match masked(name, &leaf.value) {
        _ if secret => String::new(),
        // Not every type's refusal repeats what it was given.
        Value::String(text) if leaf.path == path && !message.contains(&text) => {
            format!(": {text:?}")
        }
        _ => String::new(),
    };
    format!("{}: {key}{}{value}", leaf.source, in_words(&message))
}

/// Rust's names of types as an operator would say them.
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

/// One tree of all layers, the later ones over the earlier.
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
        // A table that is only named leaves in place what an earlier layer put into it.
        let only_named = leaf.value.as_object().is_some_and(Map::is_empty);
        if !(only_named && place.is_object()) {
            *place = leaf.value.clone();
        }
    }
    root
}
