//! The audit of a transaction: what it has accepted, as the next rows of this process's chain.

use super::{audit_chain::AuditChain, committer::Committer, queue::Submission};
use crate::{
    engine::{Answer, Changes},
    model::{
        audit::{Digest, Entry, Link},
        error::Result,
    },
    store::Recorded,
};

/// The rows as a transaction writes them.
pub(super) fn recorded<'a>(
    chain: Option<&'a AuditChain>,
    links: &'a [Link],
) -> Option<Recorded<'a>> {
    let chain = &chain.filter(|_| !links.is_empty())?.name;
    Some(Recorded { chain, links })
}

impl Committer {
    /// The rows for the messages that were accepted and for the decisions of operators and the
    /// application.
    pub(super) async fn links(
        &mut self,
        batch: &[Submission],
        answers: &[Option<Answer>],
        changes: &Changes,
    ) -> Result<Vec<Link>> {
        if self.audit.is_none() {
            return Ok(Vec::new());
        }
        let mut entries = Vec::with_capacity(changes.accepted.len());
        for row in &changes.accepted {
            let Some(evidence) = &row.evidence else {
                continue;
            };
            let peer = self.peers.get(&self.store, row.key.peer).await?;
            entries.push(Entry {
                at: row.received_at,
                peer: peer.url.as_str().into(),
                certificate: evidence.certificate.clone(),
                queue: row.queue.clone(),
                action: row.action.clone(),
                message: Some(row.key.message.as_str().into()),
                task: row.task.as_ref().map(|task| task.as_str().into()),
                body: Digest(evidence.body),
                answer: "200".into(),
            });
        }
        let mut answers = answers.iter();
        for submission in batch {
            let mine: Vec<_> = answers.by_ref().take(submission.events.len()).collect();
            let accepted = |answer: &&Option<Answer>| **answer == Some(Answer::Accepted);
            // A rejected decision has changed nothing.
            if mine.iter().all(accepted) {
                entries.extend(submission.entry.as_deref().cloned());
            }
        }
        self.link(entries).await
    }

    /// Links entries to the chain. The new links count once they are committed.
    pub(super) async fn link(&mut self, entries: Vec<Entry>) -> Result<Vec<Link>> {
        let Some(chain) = self.audit.as_mut().filter(|_| !entries.is_empty()) else {
            return Ok(Vec::new());
        };
        let mut head = match chain.head {
            Some(head) => head,
            None => self.writer.audit_head(&chain.name).await?,
        };
        let links = entries.into_iter().map(|entry| {
            let link = head.link(&chain.name, entry);
            head = link.head();
            link
        });
        Ok(links.collect())
    }

    /// Moves the head of the chain to the last link, which is committed.
    pub(super) fn advance(&mut self, links: &[Link]) {
        if let (Some(chain), Some(last)) = (&mut self.audit, links.last()) {
            chain.head = Some(last.head());
        }
    }

    /// Discards the known head; the next transaction reads it from the rows.
    pub(super) fn forget_head(&mut self) {
        if let Some(chain) = &mut self.audit {
            chain.head = None;
        }
    }
}
