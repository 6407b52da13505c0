//! Removes what is old.

use jiff::Timestamp;

use super::write::SqliteWriter;
use crate::model::error::Result;
use crate::store::{
    fields::Fields,
    pruning::{Pruned, Step, stays},
    sql::{LOCAL, MESSAGE, PENDING, sql},
};

impl SqliteWriter {
    pub(crate) async fn prune(&mut self, step: &Step, now: Timestamp) -> Result<Pruned> {
        match step {
            Step::Tasks(tasks, before) => self.prune_tasks(tasks, *before, now).await,
            Step::Sent(messages) => {
                let sql = sql!(
                    "DELETE FROM outbox WHERE state <> {PENDING} AND seq IN (SELECT value FROM json_each(?)) RETURNING seq"
                );
                let gone = self.count(sql, messages).await?;
                Ok(Pruned {
                    messages: gone,
                    ..Pruned::default()
                })
            }
            Step::Received { gone, emptied } => {
                const GONE: &str =
                    "DELETE FROM inbox WHERE seq IN (SELECT value FROM json_each(?)) RETURNING seq";
                const EMPTIED: &str = "UPDATE inbox SET data = 'null' WHERE seq IN (SELECT value FROM json_each(?)) RETURNING seq";
                Ok(Pruned {
                    messages: self.count(GONE, gone).await?,
                    emptied: self.count(EMPTIED, emptied).await?,
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
            "SELECT t.seq, t.id, t.role <> {LOCAL} AND t.kind <> {MESSAGE} FROM json_each(?) v \
             CROSS JOIN tasks t ON t.seq = v.value WHERE t.pruned_at IS NULL AND NOT {}",
            stays("?"),
        );
        let values = vec![
            serde_json::to_string(tasks)?.into(),
            before.as_microsecond().into(),
        ];
        let (mut known, mut own, mut ids) = (Vec::new(), Vec::new(), Vec::new());
        for row in self.fetch(find, values).await? {
            let row = &mut Fields::of("tasks", &row);
            let (seq, id, of_others) = (row.get::<i64>()?, row.get::<String>()?, row.get()?);
            let list = if of_others { &mut known } else { &mut own };
            list.push(seq);
            ids.push(id);
        }
        // What stays though all above it goes is a root from now on.
        self.put_aside(
            "UPDATE tasks SET parent = NULL WHERE parent IN (SELECT value FROM json_each(?))",
            &ids,
        )?;
        self.put_aside(
            "DELETE FROM tasks WHERE seq IN (SELECT value FROM json_each(?))",
            &own,
        )?;
        let buried: Vec<_> = known
            .iter()
            .map(|seq| (seq, now.as_microsecond()))
            .collect();
        self.put_aside(
            "UPDATE tasks SET pruned_at = v.value->>1, input = 'null', first_input = NULL, output = NULL, reservation = NULL, progress = NULL, \
             label = NULL, info = NULL, unique_key = NULL, parent = NULL, open_children = 0, wake_at = NULL, run_at = NULL, \
             pingback_at = NULL FROM json_each(?) v WHERE tasks.seq = v.value->>0",
            &buried,
        )?;
        Ok(Pruned {
            removed: own.len() as u64,
            tombstones: known.len() as u64,
            ..Pruned::default()
        })
    }

    /// How many rows of these a statement has found.
    async fn count(&mut self, sql: &str, rows: &[i64]) -> Result<u64> {
        if rows.is_empty() {
            return Ok(0);
        }
        let values = vec![serde_json::to_string(rows)?.into()];
        Ok(self.fetch(sql, values).await?.len() as u64)
    }
}
