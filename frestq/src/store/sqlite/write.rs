//! The writing connection: whole batches as JSON, which SQLite unfolds.
//!
//! Each statement that is answered costs a change of threads, twice. So what only writes is put
//! aside, and goes along with the next statement that reads, or with the commit. Most
//! transactions read nothing: they are one statement, whatever they hold (`writes.sql`).

use futures_util::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use serde::Serialize;
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, Either, Executor, SqliteConnection,
    sqlite::{SqliteArguments, SqliteConnectOptions},
};

use super::{
    encode::{self, ChangedRow, Hex, NewRow},
    limit::Limit,
    query::query,
};
use crate::model::{MessageId, TaskId, error::Result, statements::Param};
use crate::store::{
    fields::{Fields, Row},
    loads::{Content, Loaded, Lookup, Waiting},
    rows,
    sql::{CANCEL_RESERVATION, ENDED, NO_MOMENT, sql},
    task_columns::{CONTENT, STATE, state},
    writes::Writes,
};

/// Tells the rows of one statement from those of another, in a stream of them.
const TASK: i64 = 0;
const ACCEPTED: i64 = 1;
const KEY: i64 = 2;

/// The connection of this process that writes.
pub(crate) struct SqliteWriter {
    pub(super) connection: SqliteConnection,
    options: SqliteConnectOptions,
    pub(super) limit: Limit,
    /// Whether the database knows of the transaction.
    pub(super) open: bool,
    aside: Aside,
    /// Places in the outbox that this transaction has given so far.
    places: Vec<(MessageId, i64)>,
    /// The last of all places. Nobody else writes to the outbox, so there is no need to ask each
    /// time; and one that is given stays given, whatever becomes of its message.
    last_place: i64,
}

impl SqliteWriter {
    pub(super) async fn connect(options: &SqliteConnectOptions) -> Result<Self> {
        let limit = Limit::default();
        let mut connection = connect(options, &limit).await?;
        let last_place = sqlx::query_scalar("SELECT coalesce(max(seq), 0) FROM outbox")
            .fetch_one(&mut connection)
            .await?;
        Ok(Self {
            connection,
            options: options.clone(),
            limit,
            open: false,
            aside: Aside::default(),
            places: Vec::new(),
            last_place,
        })
    }

    pub(crate) async fn begin(&mut self) -> Result<()> {
        // Unless the last one could not be undone, nothing is left of it.
        self.rollback().await
    }

    pub(crate) async fn commit(&mut self) -> Result<Vec<(MessageId, i64)>> {
        if self.open || self.aside.statements > 1 {
            self.fetch("COMMIT", vec![]).await?;
            self.open = false;
        } else if self.aside.statements == 1 {
            // A statement by itself is a transaction. Its result is the last that there is to
            // wait for.
            let query = std::mem::take(&mut self.aside).query();
            match self.connection.fetch_many(query).next().await {
                Some(Ok(_)) => {}
                // What the database refuses by itself leaves nothing.
                Some(Err(error @ sqlx::Error::Database(_))) => return Err(error.into()),
                lost => {
                    // So that it is undone by a new connection.
                    self.open = true;
                    let lost = lost.and_then(Result::err);
                    return Err(lost.unwrap_or(sqlx::Error::WorkerCrashed).into());
                }
            }
        }
        Ok(std::mem::take(&mut self.places))
    }

    pub(crate) async fn rollback(&mut self) -> Result<()> {
        self.aside = Aside::default();
        self.places.clear();
        if self.open {
            let undone = sqlx::query("ROLLBACK").execute(&mut self.connection).await;
            if undone.is_err() {
                // The database may have rolled back by itself, or nothing was begun; a new
                // connection is sure to be in order.
                let fresh = connect(&self.options, &self.limit).await?;
                let _ = std::mem::replace(&mut self.connection, fresh).close().await;
            }
            self.open = false;
        }
        Ok(())
    }

    pub(crate) async fn load(&mut self, lookup: &Lookup<'_>) -> Result<Loaded> {
        let tasks = sql!(
            "SELECT {TASK}, {STATE} FROM json_each(?) v CROSS JOIN tasks t ON t.id = v.value;"
        );
        let places = sql!(
            "SELECT {TASK}, {STATE} FROM json_each(?) v \
             CROSS JOIN tasks t ON t.parent = v.value->>0 AND t.ord = v.value->>1;"
        );
        let families = sql!(
            "SELECT {TASK}, {STATE} FROM json_each(?) v CROSS JOIN tasks t ON t.parent = v.value;"
        );
        let inbox = sql!(
            "SELECT {ACCEPTED}, i.peer, i.message, i.hash FROM json_each(?) v \
             CROSS JOIN inbox i ON i.peer = v.value->>0 AND i.message = v.value->>1;"
        );
        let unique = sql!(
            "SELECT {KEY}, t.unique_key, t.id FROM json_each(?) v \
             CROSS JOIN tasks t ON t.unique_key = v.value AND t.status < {ENDED};"
        );
        let keys = lookup.inbox.iter();
        let keys: Vec<_> = keys.map(|key| (key.peer.0, key.message.as_str())).collect();
        let (mut sql, mut values) = (String::new(), Vec::new());
        for (statement, wanted, json) in [
            (
                tasks,
                lookup.tasks.len(),
                serde_json::to_string(&lookup.tasks)?,
            ),
            (
                places,
                lookup.places.len(),
                serde_json::to_string(&lookup.places)?,
            ),
            (
                families,
                lookup.families.len(),
                serde_json::to_string(&lookup.families)?,
            ),
            (inbox, keys.len(), serde_json::to_string(&keys)?),
            (
                unique,
                lookup.keys.len(),
                serde_json::to_string(&lookup.keys)?,
            ),
        ] {
            if wanted > 0 {
                sql.push_str(statement);
                values.push(json.into());
            }
        }
        let mut loaded = Loaded::default();
        if values.is_empty() {
            return Ok(loaded);
        }
        for row in self.fetch(&sql, values).await? {
            // The rows of all statements come in one stream.
            let row = &mut Fields::of("tasks", &row);
            match row.get::<i64>()? {
                ACCEPTED => loaded.inbox.push(rows::accepted(row)?),
                KEY => loaded.keys.push(rows::unique(row)?),
                _ => loaded.tasks.push(state(row)?),
            }
        }
        Ok(loaded)
    }

    pub(crate) async fn contents(&mut self, ids: &[&TaskId]) -> Result<Vec<(TaskId, Content)>> {
        let sql =
            sql!("SELECT t.id, {CONTENT} FROM json_each(?) v CROSS JOIN tasks t ON t.id = v.value");
        let rows = self
            .fetch(sql, vec![serde_json::to_string(ids)?.into()])
            .await?;
        rows.iter().map(rows::content).collect()
    }

    /// Puts the writes aside for the commit, which is when they can fail.
    pub(crate) async fn save(&mut self, writes: &Writes<'_>) -> Result<()> {
        let changed = writes.changed.iter();
        let created = writes.created.iter();
        let payloads = writes.payloads.iter();
        let accepted = writes.accepted.iter();
        let settled = writes.settled.iter();
        let mut outgoing = Vec::new();
        for row in writes.outgoing {
            self.last_place += 1;
            self.places.push((row.message.clone(), self.last_place));
            outgoing.push((
                self.last_place,
                row.peer.0,
                row.message.as_str(),
                &row.queue,
                &row.action,
                row.task.as_str(),
                i64::from(row.carries_task),
                &row.body,
                row.due_at.as_microsecond(),
                row.expires_at.map(|at| at.as_microsecond()),
                row.created_at.as_microsecond(),
                row.pin.as_ref().map(|pin| Hex(pin.bytes())),
            ));
        }
        let recorded = writes.recorded.as_ref();
        let (links, head) = recorded.map(encode::links).unzip();
        let lists = [
            encode::rows(changed.map(|(state, output)| ChangedRow((state, *output))))?,
            encode::rows(created.map(|(new, state, output)| NewRow((new, state, *output))))?,
            encode::rows(payloads.map(|new| {
                (
                    new.task,
                    new.input.map(|json| json.get()),
                    new.reservation.map(|json| json.get()),
                    new.progress.map(|json| json.get()),
                )
            }))?,
            encode::rows(accepted.map(|row| {
                (
                    row.key.peer.0,
                    row.key.message.as_str(),
                    Hex(&row.hash),
                    &row.queue,
                    &row.action,
                    row.task.as_ref().map(TaskId::as_str),
                    row.data.as_ref().map(|data| data.get()),
                    row.received_at.as_microsecond(),
                )
            }))?,
            encode::rows(outgoing)?,
            encode::rows(settled.map(|s| {
                (
                    s.seq,
                    s.state.code(),
                    s.answer,
                    s.due_at.map(|at| at.as_microsecond()),
                    s.error,
                )
            }))?,
            encode::rows(links.into_iter().flatten())?,
            encode::rows(head.flatten())?,
        ];
        if lists.iter().any(|list| !matches!(list, Param::Null)) {
            const SQL: &str = "INSERT INTO frestq_writes VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
            self.aside.push(SQL, lists);
        }
        Ok(())
    }

    pub(crate) async fn waiting(
        &mut self,
        queue: &str,
        limit: i64,
        now: Timestamp,
    ) -> Result<Vec<Waiting>> {
        let sql = sql!(
            "SELECT {STATE}, t.input, t.output, t.reservation FROM tasks t \
             WHERE t.queue = ? AND t.moment <> {NO_MOMENT} AND t.owner IS NULL \
             AND (t.run_at IS NULL OR t.run_at <= ?) \
             AND (t.expires_at IS NULL OR t.expires_at > ? OR t.moment = {CANCEL_RESERVATION}) \
             ORDER BY t.priority DESC, t.seq LIMIT ?"
        );
        let now = now.as_microsecond();
        let values = vec![queue.into(), now.into(), now.into(), limit.into()];
        self.fetch(sql, values)
            .await?
            .iter()
            .map(rows::waiting)
            .collect()
    }

    /// Runs what was put aside, and then this.
    pub(in crate::store) async fn fetch(
        &mut self,
        sql: &str,
        values: Vec<Param>,
    ) -> Result<Vec<Row>> {
        let mut all = std::mem::take(&mut self.aside);
        if !std::mem::replace(&mut self.open, true) {
            all.sql.insert_str(0, "BEGIN IMMEDIATE;");
            all.statements += 1;
        }
        all.push(sql, values);
        let (statements, mut results) = (all.statements, 0);
        let (mut rows, mut answers) = (Vec::new(), self.connection.fetch_many(all.query()));
        while let Some(answer) = answers.try_next().await? {
            match answer {
                Either::Left(_) => results += 1,
                Either::Right(row) => rows.push(Row::from(row)),
            }
        }
        // One that was not answered, the last of them above all, may not have happened.
        if results < statements {
            return Err(sqlx::Error::WorkerCrashed.into());
        }
        Ok(rows)
    }

    pub(super) fn put_aside<T: Serialize>(&mut self, sql: &'static str, rows: &[T]) -> Result<()> {
        self.aside.push(sql, [serde_json::to_string(rows)?.into()]);
        Ok(())
    }
}

async fn connect(options: &SqliteConnectOptions, limit: &Limit) -> sqlx::Result<SqliteConnection> {
    let mut connection = options.connect().await?;
    sqlx::raw_sql(AssertSqlSafe(encode::triggers()))
        .execute(&mut connection)
        .await?;
    limit.watch(&mut connection).await?;
    Ok(connection)
}

/// Statements that are put aside, in order, and the values of their placeholders.
#[derive(Default)]
struct Aside {
    sql: String,
    values: Vec<Param>,
    statements: usize,
}

impl Aside {
    fn push(&mut self, sql: &str, values: impl IntoIterator<Item = Param>) {
        self.sql.push_str(sql);
        self.sql.push(';');
        self.values.extend(values);
        self.statements += 1;
    }

    fn query(self) -> sqlx::query::Query<'static, sqlx::Sqlite, SqliteArguments> {
        query(AssertSqlSafe(self.sql), self.values)
    }
}
