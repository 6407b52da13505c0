//! Connections, with an end to waiting for them.

use std::time::Duration;

use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};

/// How long to wait for a connection.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Connects, unless that takes too long.
pub(super) async fn connect(options: &PgConnectOptions) -> sqlx::Result<PgConnection> {
    tokio::time::timeout(PATIENCE, PgConnection::connect_with(options))
        .await
        .unwrap_or_else(|_| {
            Err(sqlx::Error::Io(std::io::Error::new(
                std::io::ErrorKind::TimedOut,
                format!("no answer within {} seconds", PATIENCE.as_secs()),
            )))
        })
}
