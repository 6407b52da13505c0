//! The writing connection: whole batches as JSON, unfolded by `json_each`.
//!
//! Each exchange with the connection costs a change of threads, twice. So what only writes is put
//! aside, and goes along with the next statement that reads, or with the commit: a transaction is one
//! exchange or two, whatever it holds.

use jiff::Timestamp;
use serde::{Serialize, Serializer, ser::SerializeTuple};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, SqliteConnection, sqlite::SqliteConnectOptions,
};

use super::super::{
    Content, Loaded, Lookup, Waiting, Writes,
    rows::{self, Row, select_state},
};
use crate::{
    error::Result,
    model::{Json, MessageId, Moment, NewTask, TaskId, TaskState},
    transaction::{Param, Transaction},
};

/// The connection of this process that writes.
pub(crate) struct SqliteWriter {
    connection: SqliteConnection,
    options: SqliteConnectOptions,
    open: bool,
    /// Statements put aside, in order, and the values of their placeholders.
    aside: (String, Vec<Param>),
    /// Places in the outbox that this transaction has given so far.
    places: Vec<(MessageId, i64)>,
}

impl SqliteWriter {
    pub(super) async fn connect(options: &SqliteConnectOptions) -> Result<Self> {
        Ok(Self {
            connection: options.connect().await?,
            options: options.clone(),
            open: false,
            aside: Default::default(),
            places: Vec::new(),
        })
    }

    pub(crate) async fn begin(&mut self) -> Result<()> {
        self.aside = ("BEGIN IMMEDIATE;".into(), Vec::new());
        self.open = true;
        Ok(())
    }

    pub(crate) async fn commit(&mut self) -> Result<Vec<(MessageId, i64)>> {
        self.fetch("COMMIT", vec![]).await?;
        self.open = false;
        Ok(std::mem::take(&mut self.places))
    }

    pub(crate) async fn rollback(&mut self) -> Result<()> {
        self.aside = Default::default();
        self.places.clear();
        if std::mem::take(&mut self.open)
            && sqlx::query("ROLLBACK")
                .execute(&mut self.connection)
                .await
                .is_err()
        {
            // The database may have rolled back by itself, or nothing was begun; a new connection
            // is sure to be in order.
            let fresh = self.options.connect().await?;
            let _ = std::mem::replace(&mut self.connection, fresh).close().await;
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
        // First what has ended, whose unique key a new task may have.
        if !writes.changed.is_empty() {
            let rows: Vec<_> = writes
                .changed
                .iter()
                .map(|(state, output)| ChangedRow(state, *output))
                .collect();
            self.put_aside(
                "UPDATE tasks SET status = v.value->>1, attempt = v.value->>2, failures = v.value->>3, \
                 epoch = v.value->>4, owner = v.value->>5, rev = v.value->>6, run_at = v.value->>7, \
                 modified_at = v.value->>8, output = coalesce(v.value->>9, output), \
                 open_children = v.value->>10, moment = v.value->>11, round = v.value->>12, \
                 reserved = v.value->>13, wake_at = v.value->>14, on_failure = v.value->>15, place = v.value->>16, interrupted = v.value->>17 \
                 FROM json_each(?) v WHERE tasks.id = v.value->>0",
                &rows,
            )?;
        }
        if !writes.created.is_empty() {
            let rows: Vec<_> = writes
                .created
                .iter()
                .map(|(new, state, output)| NewRow(new, state, *output))
                .collect();
            self.put_aside(
                "INSERT INTO tasks (id, kind, role, peer, queue, action, status, attempt, failures, epoch, owner, rev, \
                 run_at, expires_at, pingback_at, created_at, modified_at, label, info, input, output, parent, ord, open_children, on_failure, moment, round, reserved, wake_at, priority, unique_key, certificate, place, interrupted, at_most_once) \
                 SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6, value->>7, \
                 value->>8, value->>9, value->>10, value->>11, value->>12, value->>13, value->>14, value->>15, \
                 value->>16, value->>17, value->>18, value->>19, value->>20, value->>21, value->>22, value->>23, value->>24, value->>25, \
                 value->>26, value->>27, value->>28, value->>29, value->>30, unhex(value->>31), value->>32, value->>33, value->>34 \
                 FROM json_each(?)",
                &rows,
            )?;
        }
        if !writes.payloads.is_empty() {
            let rows: Vec<_> = writes
                .payloads
                .iter()
                .map(|new| {
                    (
                        new.task,
                        new.input.map(|json| json.get()),
                        new.reservation.map(|json| json.get()),
                        new.progress.map(|json| json.get()),
                    )
                })
                .collect();
            self.put_aside(
                "UPDATE tasks SET first_input = CASE WHEN v.value->>1 IS NULL OR v.value->>1 = input THEN first_input ELSE coalesce(first_input, input) END, \
                 input = coalesce(v.value->>1, input), \
                 reservation = coalesce(v.value->>2, reservation), progress = coalesce(v.value->>3, progress) \
                 FROM json_each(?) v WHERE tasks.id = v.value->>0",
                &rows,
            )?;
        }
        if !writes.accepted.is_empty() {
            let rows: Vec<_> = writes
                .accepted
                .iter()
                .map(|row| {
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
                })
                .collect();
            self.put_aside(
                "INSERT INTO inbox (peer, message, hash, queue, action, task, data, received_at) \
                 SELECT value->>0, value->>1, unhex(value->>2), value->>3, value->>4, value->>5, value->>6, value->>7 \
                 FROM json_each(?)",
                &rows,
            )?;
        }
        if !writes.outgoing.is_empty() {
            let rows: Vec<_> = writes
                .outgoing
                .iter()
                .map(|row| {
                    (
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
                    )
                })
                .collect();
            self.put_aside(
                "INSERT INTO outbox (peer, message, queue, action, task, carries_task, body, state, due_at, expires_at, \
                 created_at, pin) SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6, 0, \
                 value->>7, value->>8, value->>9, unhex(value->>10) FROM json_each(?) WHERE true RETURNING message, seq",
                &rows,
            )?;
        }
        if !writes.settled.is_empty() {
            let rows: Vec<_> = writes
                .settled
                .iter()
                .map(|s| {
                    (
                        s.seq,
                        s.state as i64,
                        s.answer,
                        s.due_at.map(|at| at.as_microsecond()),
                        s.error,
                    )
                })
                .collect();
            self.put_aside(
                "UPDATE outbox SET state = v.value->>1, answer = v.value->>2, attempts = attempts + 1, \
                 due_at = coalesce(v.value->>3, due_at), last_error = v.value->>4 \
                 FROM json_each(?) v WHERE outbox.seq = v.value->>0 AND outbox.state = 0",
                &rows,
            )?;
        }
        if let Some(recorded) = &writes.recorded {
            self.record(recorded)?;
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
    pub(super) async fn fetch(&mut self, sql: &str, values: Vec<Param>) -> Result<Vec<Row>> {
        let (mut all, mut arguments) = std::mem::take(&mut self.aside);
        all.push_str(sql);
        arguments.extend(values);
        let rows = super::query(AssertSqlSafe(all), arguments)
            .fetch_all(&mut self.connection)
            .await?;
        let mut rows: Vec<_> = rows.into_iter().map(Row::from).collect();
        // What was put aside may have stored messages; only their places are rows of two columns.
        for row in rows.extract_if(.., |row| row.width() == 2) {
            self.places.push(rows::place(&row)?);
        }
        Ok(rows)
    }

    pub(super) fn put_aside<T: Serialize>(&mut self, sql: &'static str, rows: &[T]) -> Result<()> {
        self.aside.0.push_str(sql);
        self.aside.0.push(';');
        self.aside.1.push(serde_json::to_string(rows)?.into());
        Ok(())
    }
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
        row.serialize_element(&Moment::code(state.moment))?;
        row.serialize_element(&state.round)?;
        row.serialize_element(&state.reserved)?;
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
        row.serialize_element(&Moment::code(state.moment))?;
        row.serialize_element(&state.round)?;
        row.serialize_element(&state.reserved)?;
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
