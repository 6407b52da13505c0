//! `--filters key=value`: names of fields turned into SQL, values into parameters.

use super::sql::{LOCAL, RECEIVED, SENT, sql};
use crate::model::{
    Status, TaskKind,
    error::{Error, Result},
};

/// A field that can be filtered by: its name, its SQL expression, how its value is read.
pub(crate) type Field = (&'static str, fn() -> &'static str, Value);

/// How the value of a filter is read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value {
    Text,
    Kind,
    Status,
    Flag,
    Number,
}

/// What a task can be filtered by. The expressions hold on both stores.
pub(crate) const TASK_FIELDS: &[Field] = &[
    ("id", || "t.id", Value::Text),
    ("task_type", || "t.kind", Value::Kind),
    ("status", || "t.status", Value::Status),
    ("queue_name", || "t.queue", Value::Text),
    ("action", || "t.action", Value::Text),
    ("label", || "t.label", Value::Text),
    (
        "sender_url",
        || sql!("CASE WHEN t.role = {RECEIVED} THEN p.url ELSE s.url END"),
        Value::Text,
    ),
    (
        "receiver_url",
        || sql!("CASE WHEN t.role = {SENT} THEN p.url ELSE s.url END"),
        Value::Text,
    ),
    (
        "is_received",
        || sql!("CASE WHEN t.role = {RECEIVED} THEN 1 ELSE 0 END"),
        Value::Flag,
    ),
    (
        "is_local",
        || sql!("CASE WHEN t.role = {LOCAL} THEN 1 ELSE 0 END"),
        Value::Flag,
    ),
    ("attempt", || "t.attempt", Value::Number),
];

/// What a message can be filtered by.
pub(crate) const MESSAGE_FIELDS: &[Field] = &[
    ("id", || "m.message", Value::Text),
    ("action", || "m.action", Value::Text),
    ("queue_name", || "m.queue", Value::Text),
    ("task_id", || "m.task", Value::Text),
    ("is_received", || "m.is_received", Value::Flag),
    (
        "sender_url",
        || "CASE WHEN m.is_received = 1 THEN p.url ELSE s.url END",
        Value::Text,
    ),
    (
        "receiver_url",
        || "CASE WHEN m.is_received = 1 THEN s.url ELSE p.url END",
        Value::Text,
    ),
    ("output_status", || "m.answer", Value::Number),
];

/// What a row of the audit can be filtered by.
pub(crate) const AUDIT_FIELDS: &[Field] = &[
    ("chain", || "a.chain", Value::Text),
    ("peer", || "a.peer", Value::Text),
    ("certificate", || "a.certificate", Value::Text),
    ("queue_name", || "a.queue", Value::Text),
    ("action", || "a.action", Value::Text),
    ("message_id", || "a.message", Value::Text),
    ("task_id", || "a.task", Value::Text),
    ("answer", || "a.answer", Value::Text),
];

/// One condition.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Filter {
    Text {
        sql: &'static str,
        value: String,
    },
    /// The value ended in `*`.
    Prefix {
        sql: &'static str,
        value: String,
    },
    Number {
        sql: &'static str,
        value: i64,
    },
    /// The task is this one, or below it in its tree.
    Subtree {
        value: String,
    },
    /// The task is at the top of this one's tree.
    Root {
        value: String,
    },
}

/// Conditions that must all hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Filters(pub(crate) Vec<Filter>);

impl Filters {
    /// One condition on a text column.
    pub(crate) fn exactly(sql: &'static str, value: &str) -> Self {
        Self(vec![Filter::Text {
            sql,
            value: value.to_owned(),
        }])
    }

    /// Only tasks of which more is left than that they were.
    pub(crate) fn unless_pruned(mut self) -> Self {
        self.0.push(Filter::Number {
            sql: "CASE WHEN t.pruned_at IS NULL THEN 0 ELSE 1 END",
            value: 0,
        });
        self
    }

    /// Reads `key=value` arguments against the fields there are.
    pub(crate) fn new(fields: &[Field], arguments: &[String]) -> Result<Self> {
        let known = || fields.iter().map(|f| f.0).collect::<Vec<_>>().join(", ");
        let mut filters = Vec::with_capacity(arguments.len());
        for argument in arguments {
            let (key, value) = argument.split_once('=').ok_or_else(|| {
                Error::Invalid(format!(
                    "filter {argument:?} is not of the form key=value; keys: {}",
                    known()
                ))
            })?;
            let &(_, sql, kind) =
                fields
                    .iter()
                    .find(|(name, ..)| *name == key)
                    .ok_or_else(|| {
                        Error::Invalid(format!(
                            "nothing can be filtered by {key:?}; keys: {}",
                            known()
                        ))
                    })?;
            let sql = sql();
            let wrong = |why: String| Error::Invalid(format!("filter {key}={value}: {why}"));
            filters.push(match kind {
                Value::Text => match value.strip_suffix('*') {
                    Some(prefix) => Filter::Prefix {
                        sql,
                        value: prefix.to_owned(),
                    },
                    None => Filter::Text {
                        sql,
                        value: value.to_owned(),
                    },
                },
                Value::Kind => Filter::Number {
                    sql,
                    value: value.parse::<TaskKind>().map_err(wrong)?.code(),
                },
                Value::Status => Filter::Number {
                    sql,
                    value: value.parse::<Status>().map_err(wrong)?.code(),
                },
                Value::Flag => {
                    let value = match value {
                        "true" | "True" | "1" => 1,
                        "false" | "False" | "0" => 0,
                        _ => return Err(wrong("expected true or false".into())),
                    };
                    Filter::Number { sql, value }
                }
                Value::Number => Filter::Number {
                    sql,
                    value: value
                        .parse()
                        .map_err(|_| wrong("expected a whole number".into()))?,
                },
            });
        }
        Ok(Self(filters))
    }

    /// The `WHERE` clause, with placeholders numbered from `first`; empty if there is no
    /// condition.
    pub(crate) fn to_sql(&self, first: usize) -> String {
        let mut sql = String::new();
        for (index, filter) in self.0.iter().enumerate() {
            let place = first + index;
            sql.push_str(if index == 0 { " WHERE " } else { " AND " });
            match filter {
                Filter::Text { sql: field, .. } | Filter::Number { sql: field, .. } => {
                    sql.push_str(&format!("{field} = ${place}"));
                }
                // `UNION` and not `UNION ALL`: rows that were a ring would not make it endless.
                Filter::Subtree { .. } => sql.push_str(&format!(
                    "t.id IN (WITH RECURSIVE tree (id) AS (SELECT id FROM tasks WHERE id = ${place} UNION \
                     SELECT c.id FROM tree JOIN tasks c ON c.parent = tree.id) SELECT id FROM tree)"
                )),
                Filter::Root { .. } => sql.push_str(&format!(
                    "t.id IN (WITH RECURSIVE above (id, parent) AS (SELECT id, parent FROM tasks WHERE id = ${place} UNION \
                     SELECT p.id, p.parent FROM above JOIN tasks p ON p.id = above.parent) \
                     SELECT id FROM above WHERE parent IS NULL)"
                )),
                // A range, so that the index on an id serves it. No text sorts after U+10FFFF.
                Filter::Prefix { sql: field, .. } => {
                    sql.push_str(&format!(
                        "({field} >= ${place} AND {field} < ${place} || '\u{10FFFF}')"
                    ));
                }
            }
        }
        sql
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_lists_the_known_ones() {
        let error = Filters::new(TASK_FIELDS, &["colour=red".into()])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("\"colour\"") && error.contains("queue_name"),
            "{error}"
        );
    }

    #[test]
    fn a_wrong_value_says_what_is_expected() {
        let error = Filters::new(TASK_FIELDS, &["status=done".into()])
            .unwrap_err()
            .to_string();
        assert!(error.contains("finished"), "{error}");
    }

    #[test]
    fn values_never_become_sql() {
        let filters = Filters::new(
            TASK_FIELDS,
            &["label=x' OR 1=1 --".into(), "status=finished".into()],
        )
        .unwrap();
        assert_eq!(filters.to_sql(2), " WHERE t.label = $2 AND t.status = $3");
    }
}
