//! Removes what is old. Several processes may do so at once: each row is removed by one of them.

use super::{query::PgQuery, write::PgWriter};
use crate::model::error::Result;
use crate::store::{
    fields::{Fields, Row},
    pruning::{Pruned, Step, stays},
    sql::{LOCAL, MESSAGE, PENDING, sql},
};
use jiff::Timestamp;

impl PgWriter {
    pub(crate) async fn prune(&mut self, step: &Step, now: Timestamp) -> Result<Pruned> {
        match step {
            Step::Tasks(tasks, before) => self.prune_tasks(tasks, *before, now).await,
            Step::Sent(messages) => {
                let sql = sql!(
                    "DELETE FROM outbox WHERE state <> {PENDING} AND seq = ANY($1) RETURNING 1"
                );
                let gone = self.count(sqlx::query(sql).bind(messages)).await?;
                Ok(Pruned {
                    messages: gone,
                    ..Pruned::default()
                })
            }
            Step::Received { gone, emptied } => {
                const GONE: &str = "DELETE FROM inbox WHERE seq = ANY($1) RETURNING 1";
                const EMPTIED: &str =
                    "UPDATE inbox SET data = 'null' WHERE seq = ANY($1) RETURNING 1";
                Ok(Pruned {
                    messages: self.count(sqlx::query(GONE).bind(gone)).await?,
                    emptied: self.count(sqlx::query(EMPTIED).bind(emptied)).await?,
                    ..Pruned::default()
                })
            }
        }
    }

    async fn prune_tasks(
        &mut self,
        tasks: &[i64],
        before: Timestamp,
        now: Timestamp,
    ) -> Result<Pruned> {
        let find = sql!(
            "SELECT t.seq, t.id, t.role <> {LOCAL} AND t.kind <> {MESSAGE} FROM tasks t WHERE t.seq = ANY($2) \
             AND t.pruned_at IS NULL AND NOT {} ORDER BY t.seq FOR UPDATE OF t",
            stays("$1"),
        );
        // What stays though all above it goes is a root from now on.
        const FREED: &str = "UPDATE tasks SET parent = NULL WHERE parent = ANY($1)";
        const GONE: &str = "DELETE FROM tasks WHERE seq = ANY($1)";
        const BURIED: &str = "UPDATE tasks SET pruned_at = $2, input = 'null', first_input = NULL, output = NULL, reservation = NULL, progress = NULL, \
             label = NULL, info = NULL, unique_key = NULL, parent = NULL, open_children = 0, wake_at = NULL, run_at = NULL, \
             pingback_at = NULL WHERE seq = ANY($1)";
        let find = sqlx::query(find).bind(before.as_microsecond()).bind(tasks);
        let (mut known, mut own, mut ids) = (Vec::new(), Vec::new(), Vec::new());
        for row in self.fetch(find).await? {
            let row = Row::from(row);
            let row = &mut Fields::of("tasks", &row);
            let (seq, id, of_others) = (row.get::<i64>()?, row.get::<String>()?, row.get()?);
            let list = if of_others { &mut known } else { &mut own };
            list.push(seq);
            ids.push(id);
        }
        self.fetch(sqlx::query(FREED).bind(&ids)).await?;
        self.fetch(sqlx::query(GONE).bind(&own)).await?;
        let buried = sqlx::query(BURIED).bind(&known).bind(now.as_microsecond());
        self.fetch(buried).await?;
        Ok(Pruned {
            removed: own.len() as u64,
            tombstones: known.len() as u64,
            ..Pruned::default()
        })
    }

    /// How many rows a statement has found.
    async fn count(&mut self, query: PgQuery<'_>) -> Result<u64> {
        Ok(self.fetch(query).await?.len() as u64)
    }
}
