//! The processes that share the database, and which of them are alive.
//!
//! A node is alive as long as its row is there. The row of one whose lease has run out may be
//! deleted by anybody, and only that makes it dead: so everybody, the node itself included, sees
//! the same. All of it goes by the database's clock, since those of two machines differ.

use std::time::Duration;

use jiff::Timestamp;

use super::database::Postgres;
use crate::model::{NodeId, PeerId, error::Result};

/// How long a process counts as alive after its last heartbeat.
const LEASE: Duration = Duration::from_secs(30);

/// Now, as the database sees it.
macro_rules! now {
    () => {
        "(extract(epoch FROM now()) * 1000000)::bigint"
    };
}

impl Postgres {
    /// In the place of an earlier node of that name, whose number is gone with this.
    pub(crate) async fn join(&self, name: &str, _now: Timestamp) -> Result<NodeId> {
        const SQL: &str = concat!(
            "INSERT INTO nodes (name, started_at, alive_until) VALUES ($1, ",
            now!(),
            ", ",
            now!(),
            " + $2) ON CONFLICT (name) DO UPDATE SET id = DEFAULT, started_at = excluded.started_at, \
             alive_until = excluded.alive_until RETURNING id"
        );
        let (id,) = sqlx::query_as(SQL)
            .bind(name)
            .bind(lease())
            .fetch_one(&self.pool)
            .await?;
        Ok(NodeId(id))
    }

    pub(crate) async fn heartbeat(&self, node: NodeId) -> Result<bool> {
        const SQL: &str = concat!(
            "UPDATE nodes SET alive_until = ",
            now!(),
            " + $2 WHERE id = $1"
        );
        let done = sqlx::query(SQL)
            .bind(node.0)
            .bind(lease())
            .execute(&self.pool)
            .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Takes a node's own number again, unless another one has its name by now.
    pub(crate) async fn join_again(&self, node: NodeId, name: &str) -> Result<bool> {
        const SQL: &str = concat!(
            "INSERT INTO nodes (id, name, started_at, alive_until) VALUES ($1, $2, ",
            now!(),
            ", ",
            now!(),
            " + $3) ON CONFLICT DO NOTHING"
        );
        let done = sqlx::query(SQL)
            .bind(node.0)
            .bind(name)
            .bind(lease())
            .execute(&self.pool)
            .await?;
        Ok(done.rows_affected() == 1)
    }

    pub(crate) async fn leave(&self, node: NodeId) -> Result<()> {
        sqlx::query("DELETE FROM nodes WHERE id = $1")
            .bind(node.0)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Whether no process serves, as far as the leases tell.
    pub(crate) async fn is_alone(&self) -> Result<bool> {
        const SQL: &str = concat!(
            "SELECT NOT EXISTS (SELECT FROM nodes WHERE alive_until >= ",
            now!(),
            ")"
        );
        let (alone,) = sqlx::query_as(SQL).fetch_one(&self.pool).await?;
        Ok(alone)
    }

    /// Removes the processes whose leases have expired.
    pub(crate) async fn bury(&self) -> Result<()> {
        const SQL: &str = concat!("DELETE FROM nodes WHERE alive_until < ", now!());
        let done = sqlx::query(SQL).execute(&self.pool).await?;
        if done.rows_affected() > 0 {
            tracing::warn!(
                nodes = done.rows_affected(),
                "gave up processes that let their lease run out"
            );
        }
        Ok(())
    }

    pub(crate) async fn claim_delivery(&self, peer: PeerId, node: NodeId) -> Result<bool> {
        // The usual case writes nothing.
        const MINE: &str = "SELECT 1 FROM peers p JOIN nodes n ON n.id = p.delivering_node WHERE p.id = $1 AND n.id = $2";
        const CLAIM: &str = "UPDATE peers SET delivering_node = $2 WHERE id = $1 AND EXISTS (SELECT FROM nodes WHERE id = $2) \
             AND (delivering_node IS NULL OR delivering_node = $2 \
             OR NOT EXISTS (SELECT FROM nodes WHERE id = delivering_node))";
        let mine = sqlx::query(MINE)
            .bind(peer.0)
            .bind(node.0)
            .fetch_optional(&self.pool)
            .await?;
        if mine.is_some() {
            return Ok(true);
        }
        self.bury().await?;
        let done = sqlx::query(CLAIM)
            .bind(peer.0)
            .bind(node.0)
            .execute(&self.pool)
            .await?;
        Ok(done.rows_affected() == 1)
    }
}

/// The lease in microseconds.
fn lease() -> i64 {
    // Thirty seconds fit.
    i64::try_from(LEASE.as_micros()).unwrap_or(i64::MAX)
}
