//! The writing connection: whole batches as arrays, unfolded by `UNNEST`.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::{
    AssertSqlSafe, Connection, PgConnection, Row as _,
    postgres::{PgConnectOptions, PgRow},
};

use super::{
    connect::connect,
    query::{PgQuery, column},
};
use crate::model::{
    InboxKey, MessageId, TaskId,
    error::{DatabaseError, Error, Result},
};
use crate::store::{
    error::database_answer,
    fields::Fields,
    loads::{Content, Loaded, Lookup, Waiting},
    rows,
    sql::{CANCEL_RESERVATION, ENDED, NO_MOMENT, sql},
    task_columns::{CONTENT, STATE},
};

/// The connection of this process that writes.
pub(crate) struct PgWriter {
    options: PgConnectOptions,
    pub(super) origin: String,
    /// `None` once it was lost; the next transaction makes a new one.
    connection: Option<PgConnection>,
    open: bool,
    /// Every statement of the transaction has succeeded. Postgres answers the `COMMIT` of a failed
    /// one with success, and rolls it back.
    pub(super) sound: bool,
    /// The server's number of the transaction, by which it tells later what became of it.
    number: i64,
    /// Places in the outbox that this transaction has given so far.
    pub(super) places: Vec<(MessageId, i64)>,
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
                    // The server may have been restarted since the last time; nothing is lost by
                    // that.
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
            let why = "a statement of this transaction has failed, so it can't be committed";
            return Err(Error::Database(DatabaseError::new(why)));
        }
        if let Err(error) = self.fetch(sqlx::query("COMMIT")).await
            && (!is_in_doubt(&error) || !self.came_through().await)
        {
            return Err(error);
        }
        (self.open, self.sound) = (false, false);
        Ok(std::mem::take(&mut self.places))
    }

    /// Whether the transaction was committed, though its `COMMIT` was not answered. All else
    /// depends on it: what was claimed in it, the answers that were promised. So this takes as
    /// long as it takes to reach the server.
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
        let tasks =
            sql!("SELECT {STATE} FROM tasks t WHERE t.id = ANY($1) ORDER BY t.seq FOR UPDATE");
        let places = sql!(
            "SELECT {STATE} FROM tasks t JOIN UNNEST($1::text[], $2::bigint[]) AS v (parent, ord) \
             ON t.parent = v.parent AND t.ord = v.ord ORDER BY t.seq FOR UPDATE OF t"
        );
        let families =
            sql!("SELECT {STATE} FROM tasks t WHERE t.parent = ANY($1) ORDER BY t.seq FOR UPDATE");
        let mut loaded = Loaded::default();
        let mut rows = Vec::new();
        if !lookup.tasks.is_empty() {
            let ids: Vec<&str> = column(&lookup.tasks, |id| id.as_str());
            rows.extend(self.fetch(sqlx::query(tasks).bind(ids)).await?);
        }
        if !lookup.places.is_empty() {
            let query = sqlx::query(places)
                .bind(column(&lookup.places, |place| place.0.as_str()))
                .bind(column(&lookup.places, |place| place.1));
            rows.extend(self.fetch(query).await?);
        }
        if !lookup.families.is_empty() {
            let ids: Vec<&str> = column(&lookup.families, |id| id.as_str());
            rows.extend(self.fetch(sqlx::query(families).bind(ids)).await?);
        }
        for row in rows {
            loaded.tasks.push(rows::state(&row.into())?);
        }
        if !lookup.keys.is_empty() {
            let keys = sql!(
                "SELECT unique_key, id FROM tasks WHERE unique_key = ANY($1) AND status < {ENDED}"
            );
            let query = sqlx::query(keys).bind(column(&lookup.keys, |key| *key));
            for row in self.fetch(query).await? {
                loaded
                    .keys
                    .push(rows::unique(&mut Fields::of("tasks", &row.into()))?);
            }
        }
        if !lookup.inbox.is_empty() {
            loaded.inbox = self.load_inbox(&lookup.inbox).await?;
        }
        Ok(loaded)
    }

    pub(crate) async fn contents(&mut self, ids: &[&TaskId]) -> Result<Vec<(TaskId, Content)>> {
        let sql = sql!("SELECT t.id, {CONTENT} FROM tasks t WHERE t.id = ANY($1)");
        let ids: Vec<&str> = column(ids, |id| id.as_str());
        let rows = self.fetch(sqlx::query(sql).bind(ids)).await?;
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
            .map(|row| rows::accepted(&mut Fields::of("inbox", &row.into())))
            .collect()
    }

    pub(crate) async fn waiting(
        &mut self,
        queue: &str,
        limit: i64,
        now: Timestamp,
    ) -> Result<Vec<Waiting>> {
        // Skips rows that another process is claiming.
        let sql = sql!(
            "SELECT {STATE}, t.input, t.output, t.reservation FROM tasks t \
             WHERE t.queue = $1 AND t.moment <> {NO_MOMENT} AND t.owner IS NULL \
             AND (t.run_at IS NULL OR t.run_at <= $2) \
             AND (t.expires_at IS NULL OR t.expires_at > $2 OR t.moment = {CANCEL_RESERVATION}) \
             ORDER BY t.priority DESC, t.seq LIMIT $3 FOR UPDATE SKIP LOCKED"
        );
        let query = sqlx::query(sql)
            .bind(queue)
            .bind(now.as_microsecond())
            .bind(limit);
        let rows = self.fetch(query).await?;
        rows.into_iter()
            .map(|row| rows::waiting(&row.into()))
            .collect()
    }

    /// Runs statements without values in one exchange with the server.
    pub(super) async fn script(&mut self, sql: &str) -> Result<()> {
        let connection = self.connection.as_mut().ok_or_else(no_transaction)?;
        let sound = std::mem::take(&mut self.sound);
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(connection)
            .await?;
        self.sound = sound;
        Ok(())
    }

    /// Every statement within a transaction goes through here, so that no failure is overlooked.
    pub(in crate::store) async fn fetch(&mut self, query: PgQuery<'_>) -> Result<Vec<PgRow>> {
        let connection = self.connection.as_mut().ok_or_else(no_transaction)?;
        let sound = std::mem::take(&mut self.sound);
        let rows = query.fetch_all(connection).await?;
        self.sound = sound;
        Ok(rows)
    }
}

fn no_transaction() -> Error {
    Error::Database(DatabaseError::new("there is no open transaction"))
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
    database_answer(error).is_none_or(|answer| {
        let code = answer.code();
        code.is_some_and(|code| code.starts_with("08") || code.starts_with("57P"))
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
