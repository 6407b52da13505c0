//! The writing connection: whole batches as arrays, unfolded by `UNNEST`.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::{
    AssertSqlSafe, Connection, PgConnection, Row as _,
    postgres::{PgArguments, PgConnectOptions, PgRow},
    query::Query,
};

use super::{connect, query, wake};
use crate::model::{
    Fingerprint, InboxKey, MessageId, RunPhase, TaskId,
    error::{Error, Result},
    statements::{Param, Transaction},
};
use crate::store::{
    Content, Loaded, Lookup, Waiting, Writes, is_transient, printable,
    rows::{self, select_state},
};

/// The connection of this process that writes.
pub(crate) struct PgWriter {
    options: PgConnectOptions,
    origin: String,
    /// `None` once it was lost; the next transaction makes a new one.
    connection: Option<PgConnection>,
    open: bool,
    /// Every statement of the transaction has succeeded. Postgres answers the `COMMIT` of a failed
    /// one with success, and rolls it back.
    sound: bool,
    /// The server's number of the transaction, by which it tells later what became of it.
    number: i64,
    /// Places in the outbox that this transaction has given so far.
    places: Vec<(MessageId, i64)>,
}

impl PgWriter {
    pub(super) async fn connect(options: &PgConnectOptions, origin: &str) -> Result<Self> {
        Ok(Self {
            options: options.clone(),
            origin: origin.to_owned(),
            connection: Some(connect(options).await?),
            open: false,
            sound: false,
            number: 0,
            places: Vec::new(),
        })
    }

    pub(crate) async fn begin(&mut self) -> Result<()> {
        self.rollback().await?;
        if let Some(connection) = &mut self.connection {
            match begin(connection).await {
                Ok(number) => self.number = number,
                Err(error) => {
                    // The server may have been restarted since the last time; nothing is lost by that.
                    tracing::warn!(%error, "lost the connection that writes; connecting again");
                    self.connection = None;
                }
            }
        }
        if self.connection.is_none() {
            let mut connection = connect(&self.options).await?;
            self.number = begin(&mut connection).await?;
            self.connection = Some(connection);
        }
        (self.open, self.sound) = (true, true);
        Ok(())
    }

    pub(crate) async fn commit(&mut self) -> Result<Vec<(MessageId, i64)>> {
        if !self.sound {
            return Err(Error::Invalid(
                "a statement of this transaction has failed, so it can't be committed".into(),
            ));
        }
        if let Err(error) = self.fetch(sqlx::query("COMMIT")).await
            && (!is_in_doubt(&error) || !self.came_through().await)
        {
            return Err(error);
        }
        (self.open, self.sound) = (false, false);
        Ok(std::mem::take(&mut self.places))
    }

    /// Whether the transaction was committed, though its `COMMIT` was not answered. All else depends
    /// on it: what was claimed in it, the answers that were promised. So this takes as long as it
    /// takes to reach the server.
    async fn came_through(&mut self) -> bool {
        if let Some(lost) = self.connection.take() {
            // Not with a farewell, which might wait for the same answer.
            drop(lost);
        }
        let mut wait = Duration::from_millis(100);
        loop {
            match self.status().await {
                // Too long ago to be known, which it can't be, counts as undone.
                Ok(None) => return false,
                Ok(Some(status)) if status == "committed" => return true,
                Ok(Some(status)) if status == "aborted" => return false,
                Ok(Some(_)) => {}
                Err(error) => tracing::warn!(
                    %error,
                    "lost the connection during a commit; asking the database what became of it"
                ),
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(Duration::from_secs(5));
        }
    }

    async fn status(&mut self) -> sqlx::Result<Option<String>> {
        let mut connection = connect(&self.options).await?;
        let (status,) = sqlx::query_as("SELECT txid_status($1)")
            .bind(self.number)
            .fetch_one(&mut connection)
            .await?;
        self.connection = Some(connection);
        Ok(status)
    }

    pub(crate) async fn rollback(&mut self) -> Result<()> {
        self.sound = false;
        self.places.clear();
        if std::mem::take(&mut self.open)
            && let Some(connection) = self.connection.take()
        {
            // Without its connection, a transaction is rolled back by the server.
            self.connection = rolled_back(connection).await;
        }
        Ok(())
    }

    pub(crate) async fn load(&mut self, lookup: &Lookup<'_>) -> Result<Loaded> {
        // In one order for all, so that two processes don't wait for each other.
        const TASKS: &str =
            select_state!(" FROM tasks t WHERE t.id = ANY($1) ORDER BY t.seq FOR UPDATE");
        const PLACES: &str = select_state!(
            " FROM tasks t JOIN UNNEST($1::text[], $2::bigint[]) AS v (parent, ord) \
             ON t.parent = v.parent AND t.ord = v.ord ORDER BY t.seq FOR UPDATE OF t"
        );
        const FAMILIES: &str =
            select_state!(" FROM tasks t WHERE t.parent = ANY($1) ORDER BY t.seq FOR UPDATE");
        let mut loaded = Loaded::default();
        let mut rows = Vec::new();
        if !lookup.tasks.is_empty() {
            let ids: Vec<&str> = column(&lookup.tasks, |id| id.as_str());
            rows.extend(self.fetch(sqlx::query(TASKS).bind(ids)).await?);
        }
        if !lookup.places.is_empty() {
            let query = sqlx::query(PLACES)
                .bind(column(&lookup.places, |place| place.0.as_str()))
                .bind(column(&lookup.places, |place| place.1));
            rows.extend(self.fetch(query).await?);
        }
        if !lookup.families.is_empty() {
            let ids: Vec<&str> = column(&lookup.families, |id| id.as_str());
            rows.extend(self.fetch(sqlx::query(FAMILIES).bind(ids)).await?);
        }
        for row in rows {
            loaded.tasks.push(rows::state(&row.into())?);
        }
        if !lookup.keys.is_empty() {
            const KEYS: &str =
                "SELECT unique_key, id FROM tasks WHERE unique_key = ANY($1) AND status < 10";
            let query = sqlx::query(KEYS).bind(column(&lookup.keys, |key| *key));
            for row in self.fetch(query).await? {
                loaded.keys.push(rows::unique(&row.into())?);
            }
        }
        if !lookup.inbox.is_empty() {
            loaded.inbox = self.load_inbox(&lookup.inbox).await?;
        }
        Ok(loaded)
    }

    pub(crate) async fn contents(&mut self, ids: &[&TaskId]) -> Result<Vec<(TaskId, Content)>> {
        const SQL: &str = "SELECT t.id, t.input, t.info, t.pingback_at, t.output, t.reservation FROM tasks t WHERE t.id = ANY($1)";
        let ids: Vec<&str> = column(ids, |id| id.as_str());
        let rows = self.fetch(sqlx::query(SQL).bind(ids)).await?;
        rows.into_iter()
            .map(|row| rows::content(&row.into()))
            .collect()
    }

    async fn load_inbox(&mut self, keys: &[&InboxKey]) -> Result<Vec<(InboxKey, [u8; 16])>> {
        const SQL: &str = "SELECT i.peer, i.message, i.hash FROM UNNEST($1::bigint[], $2::text[]) AS v (peer, message) \
             JOIN inbox i ON i.peer = v.peer AND i.message = v.message";
        let peers: Vec<i64> = keys.iter().map(|key| key.peer.0).collect();
        let messages: Vec<&str> = keys.iter().map(|key| key.message.as_str()).collect();
        let rows = self
            .fetch(sqlx::query(SQL).bind(peers).bind(messages))
            .await?;
        rows.into_iter()
            .map(|row| rows::accepted(&row.into()))
            .collect()
    }

    pub(crate) async fn run(&mut self, transaction: &Transaction) -> Result<Result<(), String>> {
        self.fetch(sqlx::query("SAVEPOINT handler")).await?;
        for (sql, params) in &transaction.statements {
            // Prepared statements are kept by their text, but are made for the types of their
            // values: so the types belong to the text.
            let sql = format!("{sql}\n/* {} */", types(params));
            let query = query(AssertSqlSafe(sql), params.iter().cloned());
            let Err(error) = self.fetch(query).await else {
                continue;
            };
            let why = match &error {
                // The handler's own mistake; so is a row of its tables that is there already.
                Error::Database(sqlx::Error::Database(why))
                    if !is_transient(&error) && !is_the_servers_trouble(why.code().as_deref()) =>
                {
                    why.to_string()
                }
                // A value that can't be sent.
                Error::Database(sqlx::Error::Encode(why)) => why.to_string(),
                _ => return Err(error),
            };
            // What failed is undone with all the handler did; what came before it is sound.
            self.sound = true;
            self.fetch(sqlx::query("ROLLBACK TO handler")).await?;
            self.fetch(sqlx::query("RELEASE handler")).await?;
            return Ok(Err(why));
        }
        self.fetch(sqlx::query("RELEASE handler")).await?;
        Ok(Ok(()))
    }

    pub(crate) async fn waiting(
        &mut self,
        queue: &str,
        limit: i64,
        now: Timestamp,
    ) -> Result<Vec<Waiting>> {
        // Rows that another process is about to take are none of ours.
        const SQL: &str = select_state!(
            ", t.input, t.output, t.reservation FROM tasks t WHERE t.queue = $1 AND t.moment <> 0 AND t.owner IS NULL \
             AND (t.run_at IS NULL OR t.run_at <= $2) AND (t.expires_at IS NULL OR t.expires_at > $2 OR t.moment = 4) \
             ORDER BY t.priority DESC, t.seq LIMIT $3 FOR UPDATE SKIP LOCKED"
        );
        let query = sqlx::query(SQL)
            .bind(queue)
            .bind(now.as_microsecond())
            .bind(limit);
        let rows = self.fetch(query).await?;
        rows.into_iter()
            .map(|row| rows::waiting(&row.into()))
            .collect()
    }

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
        let payloads = wake::notifications(&self.origin, writes);
        if !payloads.is_empty() {
            const SQL: &str =
                "SELECT pg_notify('frestq', payload) FROM UNNEST($1::text[]) AS payload";
            self.fetch(sqlx::query(SQL).bind(payloads)).await?;
        }
        Ok(())
    }

    async fn create(&mut self, writes: &Writes<'_>) -> Result<()> {
        const SQL: &str = "INSERT INTO tasks (id, kind, role, peer, queue, action, status, attempt, failures, epoch, owner, rev, \
             run_at, expires_at, pingback_at, created_at, modified_at, label, info, input, output, parent, ord, open_children, on_failure, moment, round, reserved, wake_at, priority, unique_key, certificate, place, interrupted, at_most_once) \
             SELECT * FROM UNNEST($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[], $6::text[], $7::bigint[], \
             $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[], \
             $15::bigint[], $16::bigint[], $17::bigint[], $18::text[], $19::text[], $20::text[], $21::text[], $22::text[], $23::bigint[], \
             $24::bigint[], $25::bigint[], $26::bigint[], $27::bigint[], $28::bigint[], $29::bigint[], $30::bigint[], $31::text[], $32::bytea[], \
             $33::bigint[], $34::bigint[], $35::bigint[])";
        let rows = &writes.created;
        let query = sqlx::query(SQL)
            .bind(column(rows, |(_, s, _)| s.id.as_str()))
            .bind(column(rows, |(_, s, _)| s.kind.code()))
            .bind(column(rows, |(_, s, _)| s.role.code()))
            .bind(column(rows, |(_, s, _)| s.peer.0))
            .bind(column(rows, |(_, s, _)| &*s.queue))
            .bind(column(rows, |(_, s, _)| &*s.action))
            .bind(column(rows, |(_, s, _)| s.status.code()))
            .bind(column(rows, |(_, s, _)| s.attempt))
            .bind(column(rows, |(_, s, _)| s.failures))
            .bind(column(rows, |(_, s, _)| s.epoch))
            .bind(column(rows, |(_, s, _)| s.owner.map(|node| node.0)))
            .bind(column(rows, |(_, s, _)| s.rev))
            .bind(column(rows, |(_, s, _)| micros(s.run_at)))
            .bind(column(rows, |(_, s, _)| micros(s.expires_at)))
            .bind(column(rows, |(new, ..)| micros(new.pingback_at)))
            .bind(column(rows, |(new, ..)| new.created_at.as_microsecond()))
            .bind(column(rows, |(_, s, _)| s.modified_at.as_microsecond()))
            .bind(column(rows, |(new, ..)| {
                new.label.as_deref().map(printable)
            }))
            .bind(column(rows, |(new, ..)| new.info.as_deref().map(printable)))
            .bind(column(rows, |(new, ..)| new.input.get()))
            .bind(column(rows, |(.., output)| {
                output.map(|output| output.get())
            }))
            .bind(column(rows, |(_, s, _)| {
                s.parent.as_ref().map(TaskId::as_str)
            }))
            .bind(column(rows, |(_, s, _)| s.order))
            .bind(column(rows, |(_, s, _)| s.open_children))
            .bind(column(rows, |(_, s, _)| s.on_failure.code()))
            .bind(column(rows, |(_, s, _)| RunPhase::code(s.moment)))
            .bind(column(rows, |(_, s, _)| s.round.code()))
            .bind(column(rows, |(_, s, _)| s.reserved_code()))
            .bind(column(rows, |(_, s, _)| micros(s.wake_at)))
            .bind(column(rows, |(new, ..)| new.priority))
            .bind(column(rows, |(new, ..)| new.unique_key.as_deref()))
            .bind(column(rows, |(_, s, _)| {
                s.certificate.as_ref().map(Fingerprint::bytes)
            }))
            .bind(column(rows, |(_, s, _)| s.place))
            .bind(column(rows, |(_, s, _)| s.interrupted))
            .bind(column(rows, |(_, s, _)| i64::from(s.at_most_once)));
        self.fetch(query).await.map(drop)
    }

    async fn change(&mut self, writes: &Writes<'_>) -> Result<()> {
        const SQL: &str = "UPDATE tasks SET status = v.status, attempt = v.attempt, failures = v.failures, epoch = v.epoch, \
             owner = v.owner, rev = v.rev, run_at = v.run_at, modified_at = v.modified_at, \
             output = coalesce(v.output, tasks.output), open_children = v.open_children, moment = v.moment, \
             round = v.round, reserved = v.reserved, wake_at = v.wake_at, on_failure = v.on_failure, place = v.place, interrupted = v.interrupted \
             FROM UNNEST($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], \
             $8::bigint[], $9::bigint[], $10::text[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[], $15::bigint[], $16::bigint[], $17::bigint[], $18::bigint[]) \
             AS v (seq, status, attempt, failures, epoch, owner, rev, run_at, modified_at, output, open_children, moment, \
             round, reserved, wake_at, on_failure, place, interrupted) WHERE tasks.seq = v.seq";
        let rows = &writes.changed;
        let query = sqlx::query(SQL)
            .bind(column(rows, |(s, _)| s.seq))
            .bind(column(rows, |(s, _)| s.status.code()))
            .bind(column(rows, |(s, _)| s.attempt))
            .bind(column(rows, |(s, _)| s.failures))
            .bind(column(rows, |(s, _)| s.epoch))
            .bind(column(rows, |(s, _)| s.owner.map(|node| node.0)))
            .bind(column(rows, |(s, _)| s.rev))
            .bind(column(rows, |(s, _)| micros(s.run_at)))
            .bind(column(rows, |(s, _)| s.modified_at.as_microsecond()))
            .bind(column(rows, |(_, output)| {
                output.map(|output| output.get())
            }))
            .bind(column(rows, |(s, _)| s.open_children))
            .bind(column(rows, |(s, _)| RunPhase::code(s.moment)))
            .bind(column(rows, |(s, _)| s.round.code()))
            .bind(column(rows, |(s, _)| s.reserved_code()))
            .bind(column(rows, |(s, _)| micros(s.wake_at)))
            .bind(column(rows, |(s, _)| s.on_failure.code()))
            .bind(column(rows, |(s, _)| s.place))
            .bind(column(rows, |(s, _)| s.interrupted));
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
        const SQL: &str = "INSERT INTO outbox (peer, message, queue, action, task, carries_task, body, state, due_at, \
             expires_at, created_at, pin) \
             SELECT peer, message, queue, action, task, carries_task, body, 0, due_at, expires_at, created_at, pin \
             FROM UNNEST($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::boolean[], $7::text[], \
             $8::bigint[], $9::bigint[], $10::bigint[], $11::bytea[]) \
             AS v (peer, message, queue, action, task, carries_task, body, due_at, expires_at, created_at, pin) \
             RETURNING message, seq";
        let rows = writes.outgoing;
        let query = sqlx::query(SQL)
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
        const SQL: &str = "UPDATE outbox SET state = v.state, answer = v.answer, attempts = outbox.attempts + 1, \
             due_at = coalesce(v.due_at, outbox.due_at), last_error = v.error \
             FROM UNNEST($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[]) \
             AS v (seq, state, answer, due_at, error) WHERE outbox.seq = v.seq AND outbox.state = 0";
        let rows = &writes.settled;
        let query = sqlx::query(SQL)
            .bind(column(rows, |row| row.seq))
            .bind(column(rows, |row| row.state as i64))
            .bind(column(rows, |row| i64::from(row.answer)))
            .bind(column(rows, |row| micros(row.due_at)))
            .bind(column(rows, |row| row.error.map(printable)));
        self.fetch(query).await.map(drop)
    }

    /// Every statement within a transaction goes through here, so that no failure is overlooked.
    /// Runs a statement with values of any kind.
    pub(in crate::store) async fn fetch_params(
        &mut self,
        sql: &'static str,
        values: Vec<Param>,
    ) -> Result<Vec<PgRow>> {
        self.fetch(query(sql, values)).await
    }

    pub(super) async fn fetch(
        &mut self,
        query: Query<'_, sqlx::Postgres, PgArguments>,
    ) -> Result<Vec<PgRow>> {
        let connection = self.connection.as_mut().ok_or_else(|| {
            Error::Database(sqlx::Error::Protocol("there is no open transaction".into()))
        })?;
        let sound = std::mem::take(&mut self.sound);
        let rows = query.fetch_all(connection).await?;
        self.sound = sound;
        Ok(rows)
    }
}

/// Begins a transaction, and gives its number.
async fn begin(connection: &mut PgConnection) -> sqlx::Result<i64> {
    let rows = sqlx::raw_sql("BEGIN; SELECT txid_current()")
        .fetch_all(connection)
        .await?;
    rows.first()
        .ok_or(sqlx::Error::RowNotFound)?
        .try_get::<i64, _>(0)
}

/// Whether a `COMMIT` that failed like this may have come through: the server has not said that it
/// did not.
fn is_in_doubt(error: &Error) -> bool {
    match error {
        Error::Database(sqlx::Error::Database(error)) => error
            .code()
            .is_some_and(|code| code.starts_with("08") || code.starts_with("57P")),
        _ => true,
    }
}

/// Whether it was for want of room or memory, a damaged disk, or the server's end.
fn is_the_servers_trouble(code: Option<&str>) -> bool {
    code.is_some_and(|code| {
        ["08", "53", "57P", "58", "XX"]
            .iter()
            .any(|class| code.starts_with(class))
    })
}

/// The connection after its transaction; `None` if it is of no use any more.
async fn rolled_back(mut connection: PgConnection) -> Option<PgConnection> {
    match sqlx::query("ROLLBACK").execute(&mut connection).await {
        Ok(_) => Some(connection),
        Err(_) => {
            let _ = connection.close_hard().await;
            None
        }
    }
}

/// One value of every row.
pub(super) fn column<'a, R, T>(rows: &'a [R], value: impl Fn(&'a R) -> T) -> Vec<T> {
    rows.iter().map(value).collect()
}

fn micros(at: Option<Timestamp>) -> Option<i64> {
    at.map(|at| at.as_microsecond())
}

/// A letter for the type of each value.
fn types(params: &[Param]) -> String {
    params
        .iter()
        .map(|param| match param {
            Param::Null => 'n',
            Param::Integer(_) => 'i',
            Param::Real(_) => 'r',
            Param::Text(_) => 't',
            Param::Bytes(_) => 'b',
            Param::Bool(_) => 'l',
        })
        .collect()
}
