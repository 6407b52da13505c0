//! The audit of a transaction: what was accepted in it, as the next rows of this process's chain.

use super::{audit_chain::AuditChain, committer::Committer, queue::Submission};
use crate::{
    engine::{Answer, Changes},
    model::{
        audit::{Digest, Entry, Link},
        error::Result,
    },
    store::Recorded,
};

/// What a transaction writes of these rows.
pub(super) fn recorded<'a>(
    chain: Option<&'a AuditChain>,
    links: &'a [Link],
) -> Option<Recorded<'a>> {
    let chain = &chain.filter(|_| !links.is_empty())?.name;
    Some(Recorded { chain, links })
}

impl Committer {
    /// The rows for what was accepted, and for what a person has decided.
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
            // What was asked in vain has changed nothing.
            if mine.iter().all(accepted) {
                entries.extend(submission.entry.as_deref().cloned());
            }
        }
        self.link(entries).await
    }

    /// Links entries to the chain, as far as it goes. That is true only once it is committed.
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

    /// These are on disk.
    pub(super) fn advance(&mut self, links: &[Link]) {
        if let (Some(chain), Some(last)) = (&mut self.audit, links.last()) {
            chain.head = Some(last.head());
        }
    }

    /// What the rows say is to be looked up.
    pub(super) fn forget_head(&mut self) {
        if let Some(chain) = &mut self.audit {
            chain.head = None;
        }
    }
}
