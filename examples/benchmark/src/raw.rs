//! The raw figures of the machine, without frestq.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use sqlx::{
    ConnectOptions, Connection, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

const DURATION: Duration = Duration::from_secs(3);

async fn open(folder: &Path, name: &str) -> anyhow::Result<SqliteConnection> {
    let mut connection = SqliteConnectOptions::new()
        .filename(folder.join(name))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .connect()
        .await?;
    sqlx::raw_sql("CREATE TABLE raw (id INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT")
        .execute(&mut connection)
        .await?;
    Ok(connection)
}

/// Commits per second, each of one small row and synced.
pub(crate) async fn single_commits(folder: &Path) -> anyhow::Result<f64> {
    let mut connection = open(folder, "single.sqlite").await?;
    let start = Instant::now();
    let mut done = 0u64;
    while start.elapsed() < DURATION {
        let mut transaction = connection.begin().await?;
        sqlx::query("INSERT INTO raw (text) VALUES (?1)")
            .bind("x".repeat(200))
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        done += 1;
    }
    Ok(done as f64 / start.elapsed().as_secs_f64())
}

/// Rows per second, in transactions of 1,024 small rows and one statement.
pub(crate) async fn batched_rows(folder: &Path) -> anyhow::Result<f64> {
    const ROWS: usize = 1024;
    let mut connection = open(folder, "batched.sqlite").await?;
    let rows = format!(
        "[{}]",
        vec![format!("\"{}\"", "x".repeat(200)); ROWS].join(",")
    );
    let start = Instant::now();
    let mut done = 0usize;
    while start.elapsed() < DURATION {
        let mut transaction = connection.begin().await?;
        sqlx::query("INSERT INTO raw (text) SELECT value FROM json_each(?1)")
            .bind(&rows)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        done += ROWS;
    }
    Ok(done as f64 / start.elapsed().as_secs_f64())
}
