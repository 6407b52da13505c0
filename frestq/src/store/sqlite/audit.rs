//! Rows of the audit, written with what they tell of.

use super::{
    super::{Recorded, audit},
    write::{Hex, SqliteWriter},
};
use crate::{audit::Head, error::Result};

impl SqliteWriter {
    /// How far a chain goes. Its rows count if there are more of them than its head says, so that
    /// somebody's meddling with the head holds up nothing.
    pub(crate) async fn audit_head(&mut self, chain: &str) -> Result<Head> {
        // Of three columns, since rows of two are places in the outbox.
        const SQL: &str = "SELECT seq, hash, 0 FROM (\
             SELECT seq, hash FROM audit_heads WHERE chain = ? UNION ALL \
             SELECT * FROM (SELECT seq, hash FROM audit WHERE chain = ? ORDER BY seq DESC LIMIT 1)) \
             ORDER BY seq DESC LIMIT 1";
        let rows = self.fetch(SQL, vec![chain.into(), chain.into()]).await?;
        rows.first().map_or(Ok(Head::EMPTY), audit::head)
    }

    pub(super) fn record(&mut self, Recorded { chain, links }: &Recorded<'_>) -> Result<()> {
        let rows: Vec<_> = links
            .iter()
            .map(|link| {
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
            })
            .collect();
        self.put_aside(
            "INSERT INTO audit (chain, seq, at, peer, certificate, queue, action, message, task, body, answer, hash) \
             SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6, value->>7, value->>8, \
             unhex(value->>9), value->>10, unhex(value->>11) FROM json_each(?)",
            &rows,
        )?;
        let heads = links
            .last()
            .map(|link| (chain, link.seq, Hex(&link.hash.0)));
        self.put_aside(
            "INSERT INTO audit_heads (chain, seq, hash) \
             SELECT value->>0, value->>1, unhex(value->>2) FROM json_each(?) WHERE true \
             ON CONFLICT (chain) DO UPDATE SET seq = excluded.seq, hash = excluded.hash",
            heads.as_slice(),
        )
    }
}
