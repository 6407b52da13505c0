//! Rows as JSON arrays, which the triggers of `writes.sql` unfold; and those triggers, with the
//! columns of a task written into them.

use serde::{Serialize, Serializer, ser::SerializeSeq};

use crate::model::{error::Result, statements::Param};
use crate::store::{
    sql::PENDING,
    task_columns::{self, Changed, Column, Created, Kind, Value},
    writes::Recorded,
};

/// What a connection that writes needs beside the tables.
pub(super) fn triggers() -> String {
    let set = task_columns::changed().zip(1..).map(|(column, index)| {
        let (name, value) = (column.name, value(column, index));
        match column.is_kept() {
            true => format!("{name} = coalesce({value}, {name})"),
            false => format!("{name} = {value}"),
        }
    });
    let columns = task_columns::created().map(|column| column.name.to_owned());
    let values = task_columns::created()
        .zip(0..)
        .map(|(column, index)| value(column, index));
    include_str!("writes.sql")
        .replace("{set}", &list(set))
        .replace("{columns}", &list(columns))
        .replace("{values}", &list(values))
        .replace("{PENDING}", &PENDING.to_string())
}

fn list(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(", ")
}

/// A value of the row `v`.
fn value(column: &Column, index: usize) -> String {
    match column.kind {
        Kind::Bytes => format!("unhex(v.value->>{index})"),
        Kind::Integer | Kind::Text | Kind::Prose => format!("v.value->>{index}"),
    }
}

/// A new task.
pub(super) struct NewRow<'a>(pub(super) Created<'a>);

impl Serialize for NewRow<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut row = serializer.serialize_seq(None)?;
        for value in task_columns::created().filter_map(|column| column.created(self.0)) {
            row.serialize_element(&value)?;
        }
        row.end()
    }
}

/// A changed task, its id first.
pub(super) struct ChangedRow<'a>(pub(super) Changed<'a>);

impl Serialize for ChangedRow<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut row = serializer.serialize_seq(None)?;
        row.serialize_element(&self.0.0.id)?;
        for value in task_columns::changed().filter_map(|column| column.changed(self.0)) {
            row.serialize_element(&value)?;
        }
        row.end()
    }
}

impl Serialize for Value<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Integer(number) => number.serialize(serializer),
            Value::Text(text) => text.serialize(serializer),
            Value::Bytes(bytes) => bytes.map(Hex).serialize(serializer),
        }
    }
}

/// The rows of `audit` that `writes.sql` unfolds, and the one of `audit_heads`.
pub(super) fn links<'a>(
    Recorded { chain, links }: &'a Recorded<'_>,
) -> (Vec<impl Serialize + 'a>, Option<impl Serialize + 'a>) {
    let rows = links.iter().map(move |link| {
        let entry = &link.entry;
        (
            chain,
            link.seq,
            entry.at.as_microsecond(),
            &entry.peer,
            &entry.certificate,
            &entry.queue,
            &entry.action,
            &entry.message,
            &entry.task,
            Hex(&entry.body.0),
            &entry.answer,
            Hex(&link.hash.0),
        )
    });
    let head = links
        .last()
        .map(|link| (chain, link.seq, Hex(&link.hash.0)));
    (rows.collect(), head)
}

/// Rows as JSON, if there are any.
pub(super) fn rows<T: Serialize>(rows: impl IntoIterator<Item = T>) -> Result<Param> {
    let rows: Vec<_> = rows.into_iter().collect();
    Ok(match rows.is_empty() {
        true => Param::Null,
        false => serde_json::to_string(&rows)?.into(),
    })
}

/// Bytes as hexadecimal text, which `unhex` reads back.
pub(super) struct Hex<'a>(pub(super) &'a [u8]);

impl Serialize for Hex<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use std::fmt::Write;
        let mut text = String::with_capacity(self.0.len() * 2);
        for byte in self.0 {
            // Writing to a String never fails.
            let _ = write!(text, "{byte:02x}");
        }
        serializer.serialize_str(&text)
    }
}
