//! The database: made, checked, read.

use std::{fmt, str::FromStr, sync::LazyLock};

use sqlx::{
    AssertSqlSafe, Connection, PgConnection, PgPool, SqlSafeStr,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use super::{
    connect::{PATIENCE, connect},
    query::query,
    write::PgWriter,
};
use crate::model::{
    error::{Error, Result},
    statements::Param,
};
use crate::store::{
    fields::Row,
    migrations::{self, APPLIED, OpenMode, check_migrations},
};

static MIGRATIONS: LazyLock<Migrator> = LazyLock::new(migrations::postgres);

/// Under which number processes take turns at making the application's tables.
const SCHEMA_LOCK: i64 = 0x0066_7265_7374_7101;

/// A Postgres database.
pub(crate) struct Postgres {
    /// Its address, without the password.
    shown: String,
    pub(super) options: PgConnectOptions,
    /// For reading, beside the writer.
    pub(super) pool: PgPool,
    /// Tells our own notifications from those of other processes.
    pub(super) origin: String,
}

/// The options hold the password.
impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Postgres").field(&self.shown).finish()
    }
}

impl Postgres {
    pub(in crate::store) async fn open(url: &str, purpose: OpenMode) -> Result<Self> {
        // The parser's message quotes parts of the address, so it is not passed on.
        let options = PgConnectOptions::from_str(url).map_err(|_| {
            Error::Config(
                "the Postgres address can't be read; expected postgres://USER:PASSWORD@HOST:PORT/NAME, \
                 with special characters as %XX"
                    .into(),
            )
        })?;
        let shown = shown(&options);
        let options = options
            .application_name("frestq")
            .statement_cache_capacity(256)
            .options([
                // An answer to a peer is a promise: it waits for the disk.
                ("synchronous_commit", "on"),
                // What the row locks are meant for.
                ("default_transaction_isolation", "read committed"),
                // A plan made while a table was empty would be kept when it is full.
                ("plan_cache_mode", "force_custom_plan"),
            ]);
        // Not through the pool, which would hide the cause of a failure behind its own timeout.
        let mut connection = match connect(&options).await {
            Err(error) if purpose == OpenMode::Create && is_unknown_database(&error) => {
                create_database(&options)
                    .await
                    .map_err(|e| schema(&shown, &format!("it can't be made: {e}")))?;
                connect(&options).await
            }
            other => other,
        }
        .map_err(|error| {
            schema(
                &shown,
                &if is_unknown_database(&error) {
                    "there is no such database; run this binary with --createdb".to_owned()
                } else {
                    format!("it can't be reached: {error}; check the address, the user and the password, and that the server runs")
                },
            )
        })?;
        prepare(&mut connection, purpose)
            .await
            .map_err(|why| schema(&shown, &why))?;
        connection.close().await?;
        let pool = PgPoolOptions::new()
            .max_connections(4)
            .acquire_timeout(PATIENCE)
            .connect_lazy_with(options.clone());
        Ok(Self {
            shown,
            options,
            pool,
            origin: format!("{:016x}", fastrand::u64(..)),
        })
    }

    pub(in crate::store) async fn writer(&self) -> Result<PgWriter> {
        PgWriter::connect(&self.options, &self.origin).await
    }

    pub(in crate::store) async fn run_schema(&self, statements: &[&str]) -> Result<()> {
        // A connection of its own: the lock that it takes ends with it, whatever happens.
        let mut connection = connect(&self.options).await?;
        // `CREATE TABLE IF NOT EXISTS` is not safe to run twice at the same time.
        sqlx::query("SELECT pg_advisory_lock($1)")
            .bind(SCHEMA_LOCK)
            .execute(&mut connection)
            .await?;
        for statement in statements {
            sqlx::raw_sql(AssertSqlSafe(*statement))
                .execute(&mut connection)
                .await?;
        }
        connection.close().await?;
        Ok(())
    }

    pub(in crate::store) async fn fetch(
        &self,
        sql: impl SqlSafeStr,
        values: Vec<Param>,
    ) -> Result<Vec<Row>> {
        let rows = query(sql, values).fetch_all(&self.pool).await?;
        Ok(rows.into_iter().map(Row::from).collect())
    }

    pub(in crate::store) async fn close(&self) {
        self.pool.close().await;
    }
}

/// Makes or checks the tables; if they can't be used, says why.
async fn prepare(connection: &mut PgConnection, purpose: OpenMode) -> Result<(), String> {
    let (encoding,): (String,) = sqlx::query_as("SHOW server_encoding")
        .fetch_one(&mut *connection)
        .await
        .map_err(|e| e.to_string())?;
    if encoding != "UTF8" {
        return Err(format!(
            "its encoding is {encoding}; make one with ENCODING 'UTF8', since payloads may hold any character"
        ));
    }
    let applied: Vec<(i64,)> = match sqlx::query_as(APPLIED).fetch_all(&mut *connection).await {
        // There is no such table.
        Err(error) if has_code(&error, "42P01") => Vec::new(),
        other => other.map_err(|e| e.to_string())?,
    };
    check_migrations(&MIGRATIONS, &applied, purpose)?;
    if purpose == OpenMode::Create {
        // Under an advisory lock of sqlx: of two that do it at once, one finds it done.
        MIGRATIONS
            .run_direct(None, &mut *connection, false)
            .await
            .map_err(|e| format!("its tables can't be made: {e}"))?;
        sqlx::query("INSERT INTO peers (id, url) VALUES (0, '') ON CONFLICT DO NOTHING")
            .execute(connection)
            .await
            .map_err(|e| e.to_string())?;
    }
    Ok(())
}

/// Makes the database itself, from the one that every server has.
async fn create_database(options: &PgConnectOptions) -> sqlx::Result<()> {
    let name = options.get_database().unwrap_or(options.get_username());
    let statement = format!(
        "CREATE DATABASE \"{}\" TEMPLATE template0 ENCODING 'UTF8'",
        name.replace('"', "\"\"")
    );
    let mut connection = connect(&options.clone().database("postgres")).await?;
    let made = sqlx::query(AssertSqlSafe(statement))
        .execute(&mut connection)
        .await;
    match made {
        // Another process may have created it first.
        Err(error) if !has_code(&error, "42P04") && !has_code(&error, "23505") => Err(error),
        _ => connection.close().await,
    }
}

fn is_unknown_database(error: &sqlx::Error) -> bool {
    has_code(error, "3D000")
}

fn has_code(error: &sqlx::Error, code: &str) -> bool {
    error
        .as_database_error()
        .is_some_and(|error| error.code().as_deref() == Some(code))
}

/// The address as it may be printed.
fn shown(options: &PgConnectOptions) -> String {
    let host = match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => options.get_host().to_owned(),
    };
    let user = options.get_username();
    format!(
        "postgres://{user}@{host}:{}/{}",
        options.get_port(),
        options.get_database().unwrap_or(user)
    )
}

fn schema(shown: &str, why: &str) -> Error {
    Error::Schema {
        database: shown.to_owned(),
        why: why.to_owned(),
    }
}
