//! The file: opened, made, locked, read.

use std::{
    fs::File,
    path::{Path, PathBuf},
    str::FromStr,
    sync::LazyLock,
    time::Duration,
};

use sqlx::{
    Connection, SqlSafeStr, SqlitePool,
    migrate::Migrator,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use super::{query::query, write::SqliteWriter};
use crate::model::{
    error::{Error, Result},
    statements::Param,
};
use crate::store::{
    fields::Row,
    migrations::{self, APPLIED, OpenMode, check_migrations},
};

static MIGRATIONS: LazyLock<Migrator> = LazyLock::new(migrations::sqlite);

/// How long to wait for the lock of the one serving process.
const PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(20);

/// An open SQLite database.
#[derive(Debug)]
pub(crate) struct Sqlite {
    path: PathBuf,
    options: SqliteConnectOptions,
    /// For reading, beside the writer.
    pub(super) pool: SqlitePool,
    /// Held while this process serves: the lease on everything in the file.
    lock: Option<File>,
}

impl Sqlite {
    pub(in crate::store) async fn open(path: &str, purpose: OpenMode) -> Result<Self> {
        let path = PathBuf::from(path);
        let options = SqliteConnectOptions::from_str("sqlite:")?
            .filename(&path)
            .create_if_missing(purpose == OpenMode::Create)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(false)
            .statement_cache_capacity(64)
            .busy_timeout(Duration::from_secs(10))
            .pragma("wal_autocheckpoint", "4000")
            .pragma("temp_store", "memory")
            .pragma("cache_size", "-8192");
        if purpose != OpenMode::Create && !path.exists() {
            return Err(schema(
                &path,
                "the file does not exist; run this binary with --createdb",
            ));
        }
        let lock = match purpose {
            OpenMode::Serve => Some(wait_for_lock(&path).await?.ok_or_else(|| {
                schema(
                    &path,
                    "another process serves it; an SQLite database belongs to one. Stop that one, or use Postgres for several",
                )
            })?),
            OpenMode::Create | OpenMode::Look => None,
        };
        let pool = connect(&options).await.map_err(|e| {
            schema(
                &path,
                &format!("it can't be opened: {e}; check the path and its permissions"),
            )
        })?;
        let store = Self {
            path,
            options,
            pool,
            lock,
        };
        store.check_version(purpose).await?;
        if purpose == OpenMode::Create {
            store
                .create()
                .await
                .map_err(|e| schema(&store.path, &format!("its tables can't be made: {e}")))?;
        }
        Ok(store)
    }

    /// Makes what is missing, under the write lock: of two that do it at once, one finds it done.
    async fn create(&self) -> Result<(), sqlx::migrate::MigrateError> {
        let mut connection = self.pool.acquire().await?;
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        MIGRATIONS
            .run_direct(None, &mut *transaction, false)
            .await?;
        sqlx::query("INSERT INTO peers (id, url) VALUES (0, '') ON CONFLICT DO NOTHING")
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Refuses a database without tables, or with those of another version.
    async fn check_version(&self, purpose: OpenMode) -> Result<()> {
        let applied: Result<Vec<(i64,)>, _> = sqlx::query_as(APPLIED).fetch_all(&self.pool).await;
        let applied = applied.unwrap_or_default();
        check_migrations(&MIGRATIONS, &applied, purpose).map_err(|why| schema(&self.path, &why))
    }

    /// Takes the lock that a serving process holds, unless one does; `true`: it is ours.
    pub(in crate::store) fn take_lock(&mut self) -> Result<bool> {
        if self.lock.is_none() {
            self.lock = lock(&self.path)?;
        }
        Ok(self.lock.is_some())
    }

    pub(in crate::store) async fn fetch(
        &self,
        sql: impl SqlSafeStr,
        values: Vec<Param>,
    ) -> Result<Vec<Row>> {
        let rows = query(sql, values).fetch_all(&self.pool).await?;
        Ok(rows.into_iter().map(Row::from).collect())
    }

    pub(in crate::store) async fn writer(&self) -> Result<SqliteWriter> {
        SqliteWriter::connect(&self.options).await
    }

    pub(in crate::store) async fn run_schema(&self, statements: &[&str]) -> Result<()> {
        for statement in statements {
            sqlx::raw_sql(sqlx::AssertSqlSafe(*statement))
                .execute(&self.pool)
                .await?;
        }
        Ok(())
    }

    pub(in crate::store) fn has_room(&self, bytes: u64) -> bool {
        let folder = self
            .path
            .parent()
            .filter(|p| !p.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        // A file system that gives no answer is not a full one.
        rustix::fs::statvfs(folder).map_or(true, |disk| {
            disk.f_bavail.saturating_mul(disk.f_frsize) >= bytes
        })
    }

    pub(in crate::store) async fn close(&self) {
        self.pool.close().await;
    }
}

/// Connects for reading. If several processes open a new file at once, all but one get "locked" at
/// once, since the change to WAL ignores the busy timeout.
async fn connect(options: &SqliteConnectOptions) -> sqlx::Result<SqlitePool> {
    const LONGEST: Duration = Duration::from_secs(10);
    const PAUSE: Duration = Duration::from_millis(20);
    let start = tokio::time::Instant::now();
    loop {
        let connected = SqlitePoolOptions::new()
            .max_connections(4)
            // A file does not go away as a server does, and asking costs a change of threads.
            .test_before_acquire(false)
            .connect_with(options.clone())
            .await;
        match connected {
            Err(sqlx::Error::Database(error))
                if error.code().as_deref() == Some("5") && start.elapsed() < LONGEST =>
            {
                tokio::time::sleep(PAUSE).await;
            }
            other => return other,
        }
    }
}

/// Takes the lock, unless another process keeps it: the command line has it for a moment while it
/// carries out a decision.
async fn wait_for_lock(path: &Path) -> Result<Option<File>> {
    for _ in 0..PATIENCE.as_millis() / PAUSE.as_millis() {
        if let Some(file) = lock(path)? {
            return Ok(Some(file));
        }
        tokio::time::sleep(PAUSE).await;
    }
    lock(path)
}

/// Takes the lock that makes this the one serving process; `None`: another one has it.
fn lock(path: &Path) -> Result<Option<File>> {
    // Under the file's own name, by whatever link it was found.
    let file = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mut name = file.into_os_string();
    name.push(".lock");
    let io = |source| Error::Io {
        what: format!("can't use the lock file {}", Path::new(&name).display()),
        source,
    };
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&name)
        .map_err(io)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(std::fs::TryLockError::WouldBlock) => Ok(None),
        Err(std::fs::TryLockError::Error(source)) => Err(io(source)),
    }
}

fn schema(path: &Path, why: &str) -> Error {
    Error::Schema {
        database: format!("sqlite:{}", path.display()),
        why: why.to_owned(),
    }
}
