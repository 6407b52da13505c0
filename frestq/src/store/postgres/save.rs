//! What a transaction writes: a statement a table, with the values of all rows as arrays.

use jiff::Timestamp;

use super::{
    notify,
    query::{PgQuery, column},
    write::PgWriter,
};
use crate::model::{Fingerprint, TaskId, error::Result};
use crate::store::{
    rows,
    sql::{PENDING, sql},
    task_columns::{self, Column, Kind, Value},
    text::printable,
    writes::Writes,
};

impl PgWriter {
    pub(crate) async fn save(&mut self, writes: &Writes<'_>) -> Result<()> {
        // First what has ended, whose unique key a new task may have.
        if !writes.changed.is_empty() {
            self.change(writes).await?;
        }
        if !writes.created.is_empty() {
            self.create(writes).await?;
        }
        if !writes.payloads.is_empty() {
            self.replace_payloads(writes).await?;
        }
        if !writes.accepted.is_empty() {
            self.accept(writes).await?;
        }
        if !writes.outgoing.is_empty() {
            self.send(writes).await?;
        }
        if !writes.settled.is_empty() {
            self.settle(writes).await?;
        }
        if let Some(recorded) = &writes.recorded {
            self.record(recorded).await?;
        }
        let payloads = notify::notifications(&self.origin, writes);
        if !payloads.is_empty() {
            const SQL: &str =
                "SELECT pg_notify('frestq', payload) FROM UNNEST($1::text[]) AS payload";
            self.fetch(sqlx::query(SQL).bind(payloads)).await?;
        }
        Ok(())
    }

    async fn create(&mut self, writes: &Writes<'_>) -> Result<()> {
        let sql = sql!(
            "INSERT INTO tasks ({}) SELECT * FROM UNNEST({})",
            list(task_columns::created().map(|column| column.name.to_owned())),
            arrays(1, task_columns::created()),
        );
        let rows = &writes.created;
        let query = task_columns::created().fold(sqlx::query(sql), |query, column| {
            bind(
                query,
                column,
                rows.iter().filter_map(|row| column.created(*row)),
            )
        });
        self.fetch(query).await.map(drop)
    }

    async fn change(&mut self, writes: &Writes<'_>) -> Result<()> {
        let sql = sql!(
            "UPDATE tasks SET {} FROM UNNEST($1::bigint[], {}) AS v (seq, {}) WHERE tasks.seq = v.seq",
            list(task_columns::changed().map(|column| {
                let name = column.name;
                match column.is_kept() {
                    true => format!("{name} = coalesce(v.{name}, tasks.{name})"),
                    false => format!("{name} = v.{name}"),
                }
            })),
            arrays(2, task_columns::changed()),
            list(task_columns::changed().map(|column| column.name.to_owned())),
        );
        let rows = &writes.changed;
        let seqs = column(rows, |(task, _)| task.seq);
        let query = task_columns::changed().fold(sqlx::query(sql).bind(seqs), |query, column| {
            bind(
                query,
                column,
                rows.iter().filter_map(|row| column.changed(*row)),
            )
        });
        self.fetch(query).await.map(drop)
    }

    async fn replace_payloads(&mut self, writes: &Writes<'_>) -> Result<()> {
        const SQL: &str = "UPDATE tasks SET first_input = CASE WHEN v.input IS NULL OR v.input = tasks.input THEN tasks.first_input ELSE coalesce(tasks.first_input, tasks.input) END, \
             input = coalesce(v.input, tasks.input), \
             reservation = coalesce(v.reservation, tasks.reservation), progress = coalesce(v.progress, tasks.progress) \
             FROM UNNEST($1::text[], $2::text[], $3::text[], $4::text[]) AS v (id, input, reservation, progress) WHERE tasks.id = v.id";
        let rows = &writes.payloads;
        let query = sqlx::query(SQL)
            .bind(column(rows, |row| row.task.as_str()))
            .bind(column(rows, |row| row.input.map(|json| json.get())))
            .bind(column(rows, |row| row.reservation.map(|json| json.get())))
            .bind(column(rows, |row| row.progress.map(|json| json.get())));
        self.fetch(query).await.map(drop)
    }

    async fn accept(&mut self, writes: &Writes<'_>) -> Result<()> {
        const SQL: &str = "INSERT INTO inbox (peer, message, hash, queue, action, task, data, received_at) \
             SELECT * FROM UNNEST($1::bigint[], $2::text[], $3::bytea[], $4::text[], $5::text[], $6::text[], $7::text[], \
             $8::bigint[])";
        let rows = writes.accepted;
        let query = sqlx::query(SQL)
            .bind(column(rows, |row| row.key.peer.0))
            .bind(column(rows, |row| row.key.message.as_str()))
            .bind(column(rows, |row| row.hash.as_slice()))
            .bind(column(rows, |row| &*row.queue))
            .bind(column(rows, |row| &*row.action))
            .bind(column(rows, |row| row.task.as_ref().map(TaskId::as_str)))
            .bind(column(rows, |row| row.data.as_ref().map(|data| data.get())))
            .bind(column(rows, |row| row.received_at.as_microsecond()));
        self.fetch(query).await.map(drop)
    }

    async fn send(&mut self, writes: &Writes<'_>) -> Result<()> {
        let sql = sql!(
            "INSERT INTO outbox (peer, message, queue, action, task, carries_task, body, state, due_at, \
             expires_at, created_at, pin) \
             SELECT peer, message, queue, action, task, carries_task, body, {PENDING}, due_at, expires_at, created_at, pin \
             FROM UNNEST($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::boolean[], $7::text[], \
             $8::bigint[], $9::bigint[], $10::bigint[], $11::bytea[]) \
             AS v (peer, message, queue, action, task, carries_task, body, due_at, expires_at, created_at, pin) \
             RETURNING message, seq"
        );
        let rows = writes.outgoing;
        let query = sqlx::query(sql)
            .bind(column(rows, |row| row.peer.0))
            .bind(column(rows, |row| row.message.as_str()))
            .bind(column(rows, |row| &*row.queue))
            .bind(column(rows, |row| &*row.action))
            .bind(column(rows, |row| row.task.as_str()))
            .bind(column(rows, |row| row.carries_task))
            .bind(column(rows, |row| &*row.body))
            .bind(column(rows, |row| row.due_at.as_microsecond()))
            .bind(column(rows, |row| micros(row.expires_at)))
            .bind(column(rows, |row| row.created_at.as_microsecond()))
            .bind(column(rows, |row| row.pin.as_ref().map(Fingerprint::bytes)));
        for row in self.fetch(query).await? {
            self.places.push(rows::place(&row.into())?);
        }
        Ok(())
    }

    async fn settle(&mut self, writes: &Writes<'_>) -> Result<()> {
        let sql = sql!(
            "UPDATE outbox SET state = v.state, answer = v.answer, attempts = outbox.attempts + 1, \
             due_at = coalesce(v.due_at, outbox.due_at), last_error = v.error \
             FROM UNNEST($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[]) \
             AS v (seq, state, answer, due_at, error) WHERE outbox.seq = v.seq AND outbox.state = {PENDING}"
        );
        let rows = &writes.settled;
        let query = sqlx::query(sql)
            .bind(column(rows, |row| row.seq))
            .bind(column(rows, |row| row.state.code()))
            .bind(column(rows, |row| i64::from(row.answer)))
            .bind(column(rows, |row| micros(row.due_at)))
            .bind(column(rows, |row| row.error.map(printable)));
        self.fetch(query).await.map(drop)
    }
}

fn list(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(", ")
}

/// A placeholder for each column, numbered from `first`, with the type of its list.
fn arrays(first: usize, columns: impl Iterator<Item = &'static Column>) -> String {
    list(columns.zip(first..).map(|(column, number)| {
        let kind = match column.kind {
            Kind::Integer => "bigint",
            Kind::Text | Kind::Prose => "text",
            Kind::Bytes => "bytea",
        };
        format!("${number}::{kind}[]")
    }))
}

/// Binds the list of a column's values.
fn bind<'q>(
    query: PgQuery<'q>,
    column: &Column,
    values: impl Iterator<Item = Value<'q>>,
) -> PgQuery<'q> {
    match column.kind {
        Kind::Integer => query.bind(values.map(Value::integer).collect::<Vec<_>>()),
        Kind::Text => query.bind(values.map(Value::text).collect::<Vec<_>>()),
        Kind::Prose => query.bind(
            values
                .map(|value| value.text().map(printable))
                .collect::<Vec<_>>(),
        ),
        Kind::Bytes => query.bind(values.map(Value::bytes).collect::<Vec<_>>()),
    }
}

fn micros(at: Option<Timestamp>) -> Option<i64> {
    at.map(|at| at.as_microsecond())
}
