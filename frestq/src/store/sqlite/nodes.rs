//! Nodes, where there is but one: the process that holds the file's lock.

use jiff::Timestamp;

use super::database::Sqlite;
use crate::model::{NodeId, error::Result};

impl Sqlite {
    /// The file's lock says that no other process serves, so every earlier node is gone.
    pub(crate) async fn join(&self, name: &str, now: Timestamp) -> Result<NodeId> {
        let (last,): (i64,) = sqlx::query_as("SELECT coalesce(max(id), 0) FROM (SELECT id FROM nodes UNION ALL SELECT max(owner) FROM tasks WHERE owner IS NOT NULL)")
            .fetch_one(&self.pool)
            .await?;
        sqlx::query("DELETE FROM nodes").execute(&self.pool).await?;
        sqlx::query(
            "INSERT INTO nodes (id, name, started_at, alive_until) VALUES (?1, ?2, ?3, ?4)",
        )
        .bind(last + 1)
        .bind(name)
        .bind(now.as_microsecond())
        .bind(i64::MAX)
        .execute(&self.pool)
        .await?;
        Ok(NodeId(last + 1))
    }

    /// The lease on an SQLite file is its lock, which the system holds for as long as we live.
    pub(crate) async fn heartbeat(&self, _node: NodeId) -> Result<bool> {
        Ok(true)
    }

    pub(crate) async fn leave(&self, node: NodeId) -> Result<()> {
        sqlx::query("DELETE FROM nodes WHERE id = ?1")
            .bind(node.0)
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}
