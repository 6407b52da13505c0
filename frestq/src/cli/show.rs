//! `--show-task` and `--show-message`: all fields of a record.

use std::{fmt, io::Write};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{MapAccess, Visitor},
};

use super::{find, output, stop::Stop};
use crate::{model::Json, store::Store};

pub(super) async fn task(
    store: &Store,
    id: &str,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Stop> {
    record(&find::task(store, id).await?, json, out)
}

/// There are several if several peers chose the same id.
pub(super) async fn message(
    store: &Store,
    id: &str,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Stop> {
    for (index, message) in find::messages(store, id).await?.iter().enumerate() {
        if index > 0 && !json {
            output::line(out, "")?;
        }
        record(message, json, out)?;
    }
    Ok(())
}

fn record<T: Serialize>(record: &T, json: bool, out: &mut dyn Write) -> Result<(), Stop> {
    if json {
        return output::pretty(out, record);
    }
    let Fields(fields) = serde_json::from_str(&serde_json::to_string(record)?)?;
    let width = fields.iter().map(|field| field.0.len()).max().unwrap_or(0);
    for (name, value) in &fields {
        output::line(out, &format!("{name:width$}  {}", shown(value.get())))?;
    }
    Ok(())
}

/// Formats a value: text without quotes, a payload over several lines, `null` as a dash.
fn shown(json: &str) -> String {
    if let Ok(text) = serde_json::from_str::<String>(json) {
        // Indented, so that no line looks like a field.
        return output::harmless(&text).replace('\n', "\n    ");
    }
    match json {
        "null" => "-".to_owned(),
        json => output::harmless(&output::layout(json, Some(0))),
    }
}

/// The fields of a record in their order, as JSON text.
struct Fields(Vec<(String, Json)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a record")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}
