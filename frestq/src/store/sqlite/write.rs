//! The writing connection: whole batches as JSON, which SQLite unfolds.
//!
//! Each statement that is answered costs a change of threads, twice. So what only writes is put aside,
//! and goes along with the next statement that reads, or with the commit. Most transactions read
//! nothing: they are one statement, whatever they hold (`writes.sql`).

use futures_util::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use serde::{Serialize, Serializer, ser::SerializeTuple};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, Either, Executor, SqliteConnection,
    sqlite::{SqliteArguments, SqliteConnectOptions},
};

use super::audit;
use crate::model::{
    Json, MessageId, NewTask, RunPhase, TaskId, TaskState,
    error::Result,
    statements::{Param, Transaction},
};
use crate::store::{
    Content, Loaded, Lookup, Waiting, Writes,
    rows::{self, Row, select_state},
};

/// The connection of this process that writes.
pub(crate) struct SqliteWriter {
    connection: SqliteConnection,
    options: SqliteConnectOptions,
    /// Whether the database knows of the transaction.
    open: bool,
    aside: Aside,
    /// Places in the outbox that this transaction has given so far.
    places: Vec<(MessageId, i64)>,
    /// The last of all places. Nobody else writes to the outbox, so there is no need to ask each time;
    /// and one that is given stays given, whatever becomes of its message.
    last_place: i64,
}

impl SqliteWriter {
    pub(super) async fn connect(options: &SqliteConnectOptions) -> Result<Self> {
        let mut connection = connect(options).await?;
        let last_place = sqlx::query_scalar("SELECT coalesce(max(seq), 0) FROM outbox")
            .fetch_one(&mut connection)
            .await?;
        Ok(Self {
            connection,
            options: options.clone(),
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
            // A statement by itself is a transaction. Its result is the last that there is to wait for.
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
                // The database may have rolled back by itself, or nothing was begun; a new connection
                // is sure to be in order.
                let fresh = connect(&self.options).await?;
                let _ = std::mem::replace(&mut self.connection, fresh).close().await;
            }
            self.open = false;
        }
        Ok(())
    }

    pub(crate) async fn load(&mut self, lookup: &Lookup<'_>) -> Result<Loaded> {
        const TASKS: &str =
            select_state!(" FROM json_each(?) v CROSS JOIN tasks t ON t.id = v.value;");
        const PLACES: &str = select_state!(
            " FROM json_each(?) v CROSS JOIN tasks t ON t.parent = v.value->>0 AND t.ord = v.value->>1;"
        );
        const FAMILIES: &str =
            select_state!(" FROM json_each(?) v CROSS JOIN tasks t ON t.parent = v.value;");
        const INBOX: &str = "SELECT i.peer, i.message, i.hash FROM json_each(?) v \
             CROSS JOIN inbox i ON i.peer = v.value->>0 AND i.message = v.value->>1;";
        const KEYS: &str = "SELECT t.unique_key, t.id, 0, 0 FROM json_each(?) v \
             CROSS JOIN tasks t ON t.unique_key = v.value AND t.status < 10;";
        let keys = lookup.inbox.iter();
        let keys: Vec<_> = keys.map(|key| (key.peer.0, key.message.as_str())).collect();
        let (mut sql, mut values) = (String::new(), Vec::new());
        for (statement, wanted, json) in [
            (
                TASKS,
                lookup.tasks.len(),
                serde_json::to_string(&lookup.tasks)?,
            ),
            (
                PLACES,
                lookup.places.len(),
                serde_json::to_string(&lookup.places)?,
            ),
            (
                FAMILIES,
                lookup.families.len(),
                serde_json::to_string(&lookup.families)?,
            ),
            (INBOX, keys.len(), serde_json::to_string(&keys)?),
            (
                KEYS,
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
            // The rows of all statements come in one stream; they differ in their width.
            match row.width() {
                3 => loaded.inbox.push(rows::accepted(&row)?),
                4 => loaded.keys.push(rows::unique(&row)?),
                _ => loaded.tasks.push(rows::state(&row)?),
            }
        }
        Ok(loaded)
    }

    pub(crate) async fn contents(&mut self, ids: &[&TaskId]) -> Result<Vec<(TaskId, Content)>> {
        const SQL: &str = "SELECT t.id, t.input, t.info, t.pingback_at, t.output, t.reservation FROM json_each(?) v \
             CROSS JOIN tasks t ON t.id = v.value";
        let rows = self
            .fetch(SQL, vec![serde_json::to_string(ids)?.into()])
            .await?;
        rows.iter().map(rows::content).collect()
    }

    pub(crate) async fn run(&mut self, transaction: &Transaction) -> Result<Result<(), String>> {
        self.fetch("SAVEPOINT handler", vec![]).await?;
        for (sql, params) in &transaction.statements {
            let query = super::query(AssertSqlSafe(sql.as_str()), params.iter().cloned());
            if let Err(error) = query.execute(&mut self.connection).await {
                if !is_the_statements_own(&error) {
                    return Err(error.into());
                }
                sqlx::raw_sql("ROLLBACK TO handler; RELEASE handler")
                    .execute(&mut self.connection)
                    .await?;
                return Ok(Err(error.to_string()));
            }
        }
        sqlx::query("RELEASE handler")
            .execute(&mut self.connection)
            .await?;
        Ok(Ok(()))
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
        let (links, head) = recorded.map(audit::rows).unzip();
        let lists = [
            list(changed.map(|(state, output)| ChangedRow(state, *output)))?,
            list(created.map(|(new, state, output)| NewRow(new, state, *output)))?,
            list(payloads.map(|new| {
                (
                    new.task,
                    new.input.map(|json| json.get()),
                    new.reservation.map(|json| json.get()),
                    new.progress.map(|json| json.get()),
                )
            }))?,
            list(accepted.map(|row| {
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
            list(outgoing)?,
            list(settled.map(|s| {
                (
                    s.seq,
                    s.state as i64,
                    s.answer,
                    s.due_at.map(|at| at.as_microsecond()),
                    s.error,
                )
            }))?,
            list(links.into_iter().flatten())?,
            list(head.flatten())?,
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
        const SQL: &str = select_state!(
            ", t.input, t.output, t.reservation FROM tasks t WHERE t.queue = ? AND t.moment <> 0 AND t.owner IS NULL \
             AND (t.run_at IS NULL OR t.run_at <= ?) AND (t.expires_at IS NULL OR t.expires_at > ? OR t.moment = 4) \
             ORDER BY t.priority DESC, t.seq LIMIT ?"
        );
        let now = now.as_microsecond();
        let values = vec![queue.into(), now.into(), now.into(), limit.into()];
        self.fetch(SQL, values)
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

async fn connect(options: &SqliteConnectOptions) -> sqlx::Result<SqliteConnection> {
    let mut connection = options.connect().await?;
    sqlx::raw_sql(include_str!("writes.sql"))
        .execute(&mut connection)
        .await?;
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
        super::query(AssertSqlSafe(self.sql), self.values)
    }
}

/// Rows as JSON, if there are any.
fn list<T: Serialize>(rows: impl IntoIterator<Item = T>) -> Result<Param> {
    let rows: Vec<_> = rows.into_iter().collect();
    Ok(match rows.is_empty() {
        true => Param::Null,
        false => serde_json::to_string(&rows)?.into(),
    })
}

/// Whether a statement failed by its own fault, and not for want of room, memory or a sound disk.
fn is_the_statements_own(error: &sqlx::Error) -> bool {
    const TROUBLES: [i32; 8] = [
        5,  // busy
        6,  // locked
        7,  // out of memory
        10, // the disk failed
        11, // the file is damaged
        13, // the disk is full
        14, // a file can't be opened
        26, // not a database
    ];
    match error {
        sqlx::Error::Database(error) => {
            let code = error.code().and_then(|code| code.parse::<i32>().ok());
            code.is_none_or(|code| !TROUBLES.contains(&(code & 0xff)))
        }
        sqlx::Error::Encode(_) => true,
        _ => false,
    }
}

/// A new task as the array that the `INSERT` unfolds.
struct NewRow<'a>(&'a NewTask, &'a TaskState, Option<&'a Json>);

impl Serialize for NewRow<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(new, state, output) = self;
        let mut row = serializer.serialize_tuple(35)?;
        row.serialize_element(&state.id)?;
        row.serialize_element(&state.kind.code())?;
        row.serialize_element(&state.role.code())?;
        row.serialize_element(&state.peer.0)?;
        row.serialize_element(&state.queue)?;
        row.serialize_element(&state.action)?;
        row.serialize_element(&state.status.code())?;
        row.serialize_element(&state.attempt)?;
        row.serialize_element(&state.failures)?;
        row.serialize_element(&state.epoch)?;
        row.serialize_element(&state.owner.map(|node| node.0))?;
        row.serialize_element(&state.rev)?;
        row.serialize_element(&state.run_at.map(|at| at.as_microsecond()))?;
        row.serialize_element(&state.expires_at.map(|at| at.as_microsecond()))?;
        row.serialize_element(&new.pingback_at.map(|at| at.as_microsecond()))?;
        row.serialize_element(&new.created_at.as_microsecond())?;
        row.serialize_element(&state.modified_at.as_microsecond())?;
        row.serialize_element(&new.label)?;
        row.serialize_element(&new.info)?;
        row.serialize_element(new.input.get())?;
        row.serialize_element(&output.map(|output| output.get()))?;
        row.serialize_element(&state.parent)?;
        row.serialize_element(&state.order)?;
        row.serialize_element(&state.open_children)?;
        row.serialize_element(&state.on_failure.code())?;
        row.serialize_element(&RunPhase::code(state.moment))?;
        row.serialize_element(&state.round.code())?;
        row.serialize_element(&state.reserved_code())?;
        row.serialize_element(&state.wake_at.map(|at| at.as_microsecond()))?;
        row.serialize_element(&new.priority)?;
        row.serialize_element(&new.unique_key)?;
        let certificate = state.certificate.as_ref();
        row.serialize_element(&certificate.map(|certificate| Hex(certificate.bytes())))?;
        row.serialize_element(&state.place)?;
        row.serialize_element(&state.interrupted)?;
        row.serialize_element(&i64::from(state.at_most_once))?;
        row.end()
    }
}

/// A changed task as the array that the `UPDATE` unfolds.
struct ChangedRow<'a>(&'a TaskState, Option<&'a Json>);

impl Serialize for ChangedRow<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(state, output) = self;
        let mut row = serializer.serialize_tuple(18)?;
        row.serialize_element(&state.id)?;
        row.serialize_element(&state.status.code())?;
        row.serialize_element(&state.attempt)?;
        row.serialize_element(&state.failures)?;
        row.serialize_element(&state.epoch)?;
        row.serialize_element(&state.owner.map(|node| node.0))?;
        row.serialize_element(&state.rev)?;
        row.serialize_element(&state.run_at.map(|at| at.as_microsecond()))?;
        row.serialize_element(&state.modified_at.as_microsecond())?;
        row.serialize_element(&output.map(|output| output.get()))?;
        row.serialize_element(&state.open_children)?;
        row.serialize_element(&RunPhase::code(state.moment))?;
        row.serialize_element(&state.round.code())?;
        row.serialize_element(&state.reserved_code())?;
        row.serialize_element(&state.wake_at.map(|at| at.as_microsecond()))?;
        row.serialize_element(&state.on_failure.code())?;
        row.serialize_element(&state.place)?;
        row.serialize_element(&state.interrupted)?;
        row.end()
    }
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
