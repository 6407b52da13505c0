//! Rows of the audit, written with what they tell of.

use super::write::{Hex, SqliteWriter};
use crate::store::{Recorded, audit};
use serde::Serialize;

use crate::model::{audit::Head, error::Result};

impl SqliteWriter {
    /// How far a chain goes. Its rows count if there are more of them than its head says, so that
    /// somebody's meddling with the head holds up nothing.
    pub(crate) async fn audit_head(&mut self, chain: &str) -> Result<Head> {
        const SQL: &str = "SELECT seq, hash FROM (\
             SELECT seq, hash FROM audit_heads WHERE chain = ? UNION ALL \
             SELECT * FROM (SELECT seq, hash FROM audit WHERE chain = ? ORDER BY seq DESC LIMIT 1)) \
             ORDER BY seq DESC LIMIT 1";
        let rows = self.fetch(SQL, vec![chain.into(), chain.into()]).await?;
        rows.first().map_or(Ok(Head::EMPTY), audit::head)
    }
}

/// The rows of `audit` that `writes.sql` unfolds, and the one of `audit_heads`.
pub(super) fn rows<'a>(
    Recorded { chain, links }: &'a Recorded<'_>,
) -> (Vec<impl Serialize + 'a>, Option<impl Serialize + 'a>) {
    let rows = links.iter().map(move |link| {
        let entry = &link.entry;
        (
            chain,
            link.seq,
            entry.at.as_microsecond(),
            &entry.peer,
            &entry.certificate,
            &entry.queue,
            &entry.action,
            &entry.message,
            &entry.task,
            Hex(&entry.body.0),
            &entry.answer,
            Hex(&link.hash.0),
        )
    });
    let head = links
        .last()
        .map(|link| (chain, link.seq, Hex(&link.hash.0)));
    (rows.collect(), head)
}
