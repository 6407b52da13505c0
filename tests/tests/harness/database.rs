//! The database of one peer, seen from outside.

use std::{collections::BTreeMap, io::Write as _};

use sqlx::{
    AssertSqlSafe, Connection as _, PgConnection, SqliteConnection, sqlite::SqliteConnectOptions,
};

use super::Folder;

/// A kind of database.
#[derive(Clone, Debug)]
pub(crate) enum Store {
    Sqlite,
    /// On the server of this address.
    Postgres(String),
}

impl Store {
    /// Postgres, if the environment names a server; if not, says that the test is skipped, past the
    /// capturing of output.
    pub(crate) fn postgres() -> Option<Self> {
        match std::env::var("FRESTQ_TEST_POSTGRES") {
            Ok(url) => Some(Self::Postgres(url)),
            Err(_) => {
                let test = std::thread::current();
                let _ = writeln!(
                    std::io::stderr(),
                    "skipped, FRESTQ_TEST_POSTGRES is not set: {}",
                    test.name().unwrap_or_default()
                );
                None
            }
        }
    }
}

/// The database of one peer. A Postgres one is dropped with this value.
#[derive(Debug)]
pub(crate) enum Database {
    Sqlite { path: std::path::PathBuf },
    Postgres { server: String, name: String },
}

/// Runs a query on a fresh connection of the right kind.
macro_rules! query {
    ($database:expr, $sql:expr, $query:ident => $call:expr) => {
        match $database {
            Database::Sqlite { path } => {
                let options = SqliteConnectOptions::new()
                    .filename(path)
                    .busy_timeout(std::time::Duration::from_secs(30));
                let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
                let $query = AssertSqlSafe($sql);
                let result = $call(&mut connection).await.unwrap();
                connection.close().await.unwrap();
                result
            }
            Database::Postgres { .. } => {
                let mut connection = PgConnection::connect(&$database.url()).await.unwrap();
                let $query = AssertSqlSafe($sql);
                let result = $call(&mut connection).await.unwrap();
                connection.close().await.unwrap();
                result
            }
        }
    };
}

impl Database {
    /// A place for a database, without tables of ours.
    pub(crate) async fn new(store: &Store, folder: &Folder) -> Self {
        match store {
            Store::Sqlite => Self::Sqlite {
                path: folder.join("peer.sqlite"),
            },
            Store::Postgres(server) => {
                let name = format!("frestq_test_{}", uuid::Uuid::new_v4().simple());
                let mut connection = PgConnection::connect(server).await.unwrap();
                sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}")))
                    .execute(&mut connection)
                    .await
                    .unwrap();
                Self::Postgres {
                    server: server.clone(),
                    name,
                }
            }
        }
    }

    /// Its address, as the configuration takes it.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Sqlite { path } => format!("sqlite:{}", path.display()),
            Self::Postgres { server, name } => {
                let server = server.split('?').next().unwrap_or_default();
                let scheme_end = server.find("://").map_or(0, |at| at + 3);
                let end = server[scheme_end..]
                    .find('/')
                    .map_or(server.len(), |at| scheme_end + at);
                format!("{}/{name}", &server[..end])
            }
        }
    }

    /// Runs statements.
    pub(crate) async fn execute(&self, sql: &str) {
        query!(self, sql.to_owned(), sql => async |connection| {
            sqlx::raw_sql(sql).execute(connection).await.map(|_| ())
        });
    }

    /// The first number of the first row.
    pub(crate) async fn number(&self, sql: &str) -> i64 {
        let (number,): (i64,) = query!(self, sql.to_owned(), sql => |connection| sqlx::query_as(sql).fetch_one(connection));
        number
    }

    /// Rows of a text and a number.
    pub(crate) async fn pairs(&self, sql: &str) -> Vec<(String, i64)> {
        query!(self, sql.to_owned(), sql => |connection| sqlx::query_as(sql).fetch_all(connection))
    }

    /// A connection that stays, to look many times.
    pub(crate) async fn window(&self) -> Window {
        match self {
            Self::Sqlite { path } => {
                let options = SqliteConnectOptions::new()
                    .filename(path)
                    .busy_timeout(std::time::Duration::from_secs(30));
                Window::Sqlite(SqliteConnection::connect_with(&options).await.unwrap())
            }
            Self::Postgres { .. } => {
                Window::Postgres(PgConnection::connect(&self.url()).await.unwrap())
            }
        }
    }

    /// How many rows each of our tables and of the test peer's has.
    pub(crate) async fn counts(&self) -> BTreeMap<String, i64> {
        let tables = [
            "peers", "nodes", "tasks", "inbox", "outbox", "counted", "noted",
        ];
        let counts = tables
            .map(|table| format!("SELECT '{table}', count(*) FROM {table}"))
            .join(" UNION ALL ");
        self.pairs(&counts).await.into_iter().collect()
    }

    /// How many rows the table has.
    pub(crate) async fn count(&self, table: &str) -> i64 {
        self.number(&format!("SELECT count(*) FROM {table}")).await
    }
}

/// A connection through which the rows of a running peer are looked at.
pub(crate) enum Window {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Window {
    /// Rows of one text.
    pub(crate) async fn texts(&mut self, sql: &str) -> Vec<String> {
        let sql = AssertSqlSafe(sql.to_owned());
        let rows: Vec<(String,)> = match self {
            Self::Sqlite(connection) => sqlx::query_as(sql).fetch_all(connection).await.unwrap(),
            Self::Postgres(connection) => sqlx::query_as(sql).fetch_all(connection).await.unwrap(),
        };
        rows.into_iter().map(|(text,)| text).collect()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let Self::Postgres { server, name } = self else {
            return;
        };
        let (server, name) = (server.clone(), name.clone());
        // A runtime of its own, since this may run while another one unwinds.
        let drop = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async {
                let mut connection = PgConnection::connect(&server).await?;
                sqlx::query(AssertSqlSafe(format!("DROP DATABASE {name} WITH (FORCE)")))
                    .execute(&mut connection)
                    .await?;
                anyhow::Ok(())
            })
        });
        if let Ok(Err(error)) = drop.join() {
            eprintln!("a test database is left over: {error}");
        }
    }
}
