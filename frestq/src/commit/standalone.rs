//! Commands that run in a transaction of their own, between two batches, on the writer's
//! connection.

use super::{audit::recorded, committer::Committer, queue::Standalone};
use crate::{
    model::{PeerChange, audit::Entry, error::Result},
    store::{Pruned, Step, Writes},
};

impl Committer {
    pub(super) async fn run_standalone(&mut self, standalone: Standalone) {
        // A caller that has stopped waiting sees the effect with its next read.
        match standalone {
            Standalone::Prune(step, entry, reply) => {
                let _ = reply.send(self.prune(&step, entry.as_deref()).await);
            }
            Standalone::ChangePeers(change, entry, reply) => {
                let _ = reply.send(self.change_peers(&change, &entry).await);
            }
        }
    }

    /// Prunes old rows, and records `entry` if any row was removed.
    async fn prune(&mut self, step: &Step, entry: Option<&Entry>) -> Result<Pruned> {
        for attempt in 1.. {
            match self.prune_once(step, entry).await {
                Ok(pruned) => return Ok(pruned),
                Err(error) => self.undo(error, attempt).await?,
            }
        }
        unreachable!("the loop ends by returning")
    }

    async fn prune_once(&mut self, step: &Step, entry: Option<&Entry>) -> Result<Pruned> {
        self.writer.begin().await?;
        let pruned = self.writer.prune(step, self.clock.now()).await?;
        self.commit_recorded(entry.filter(|_| !pruned.is_nothing()))
            .await?;
        Ok(pruned)
    }

    /// Changes the registered peers, and records `entry` if anything has changed.
    async fn change_peers(&mut self, change: &PeerChange, entry: &Entry) -> Result<bool> {
        for attempt in 1.. {
            match self.change_peers_once(change, entry).await {
                Ok(changed) => return Ok(changed),
                Err(error) => self.undo(error, attempt).await?,
            }
        }
        unreachable!("the loop ends by returning")
    }

    async fn change_peers_once(&mut self, change: &PeerChange, entry: &Entry) -> Result<bool> {
        self.writer.begin().await?;
        let changed = self.writer.change_peers(change).await?;
        self.commit_recorded(Some(entry).filter(|_| changed))
            .await?;
        Ok(changed)
    }

    /// Records the entry, if there is one, and commits.
    async fn commit_recorded(&mut self, entry: Option<&Entry>) -> Result<()> {
        let links = self.link(entry.into_iter().cloned().collect()).await?;
        let writes = Writes {
            recorded: recorded(self.audit.as_ref(), &links),
            ..Writes::default()
        };
        self.writer.save(&writes).await?;
        self.writer.commit().await?;
        self.advance(&links);
        Ok(())
    }
}
