//! Removes what is old through the one connection that writes, between two batches.

use super::{audit::recorded, committer::Committer};
use crate::{
    model::{audit::Entry, error::Result},
    store::{Pruned, Step, Writes},
};

impl Committer {
    /// Removes it in a transaction of its own. `entry` is recorded if anything went.
    pub(super) async fn prune(&mut self, step: &Step, entry: Option<&Entry>) -> Result<Pruned> {
        for race in 1.. {
            match self.prune_once(step, entry).await {
                Ok(pruned) => return Ok(pruned),
                Err(error) => self.undo(error, race).await?,
            }
        }
        unreachable!("the loop ends by returning")
    }

    async fn prune_once(&mut self, step: &Step, entry: Option<&Entry>) -> Result<Pruned> {
        self.writer.begin().await?;
        let pruned = self.writer.prune(step, self.clock.now()).await?;
        let entry = entry.filter(|_| !pruned.is_nothing()).cloned();
        let links = self.link(entry.into_iter().collect()).await?;
        let writes = Writes {
            recorded: recorded(self.audit.as_ref(), &links),
            ..Writes::default()
        };
        self.writer.save(&writes).await?;
        self.writer.commit().await?;
        self.advance(&links);
        Ok(pruned)
    }
}
