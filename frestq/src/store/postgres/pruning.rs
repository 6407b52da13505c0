//! Removes what is old. Several processes may do so at once: each row is removed by one of them.

use jiff::Timestamp;
use sqlx::{Postgres, postgres::PgArguments, query::Query};

use super::write::PgWriter;
use crate::store::pruning::{Pruned, Step, stays};
use crate::{model::error::Result, store::rows::Row};

impl PgWriter {
    pub(crate) async fn prune(&mut self, step: &Step, now: Timestamp) -> Result<Pruned> {
        match step {
            Step::Tasks(tasks, before) => self.prune_tasks(tasks, *before, now).await,
            Step::Sent(messages) => {
                const SQL: &str =
                    "DELETE FROM outbox WHERE state <> 0 AND seq = ANY($1) RETURNING 1";
                let gone = self.count(sqlx::query(SQL).bind(messages)).await?;
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
        const FIND: &str = concat!(
            "SELECT t.seq, t.id, t.role <> 2 AND t.kind <> 5 FROM tasks t WHERE t.seq = ANY($2) \
             AND t.pruned_at IS NULL AND NOT ",
            stays!("$1"),
            " ORDER BY t.seq FOR UPDATE OF t"
        );
        // What stays though all above it goes is a root from now on.
        const FREED: &str = "UPDATE tasks SET parent = NULL WHERE parent = ANY($1)";
        const GONE: &str = "DELETE FROM tasks WHERE seq = ANY($1)";
        const BURIED: &str = "UPDATE tasks SET pruned_at = $2, input = 'null', first_input = NULL, output = NULL, reservation = NULL, progress = NULL, \
             label = NULL, info = NULL, unique_key = NULL, parent = NULL, open_children = 0, wake_at = NULL, run_at = NULL, \
             pingback_at = NULL WHERE seq = ANY($1)";
        let find = sqlx::query(FIND).bind(before.as_microsecond()).bind(tasks);
        let (mut known, mut own, mut ids) = (Vec::new(), Vec::new(), Vec::new());
        for row in self.fetch(find).await? {
            let row = Row::from(row);
            let of_others: bool = row.get(2)?;
            let list = if of_others { &mut known } else { &mut own };
            list.push(row.get::<i64>(0)?);
            ids.push(row.get::<String>(1)?);
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
    async fn count(&mut self, query: Query<'_, Postgres, PgArguments>) -> Result<u64> {
        Ok(self.fetch(query).await?.len() as u64)
    }
}
