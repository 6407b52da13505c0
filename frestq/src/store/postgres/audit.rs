//! Rows of the audit, written with what they tell of.

use super::{query::column, write::PgWriter};
use crate::model::{audit::Head, error::Result};
use crate::store::{audit, writes::Recorded};

impl PgWriter {
    /// The head of a chain. If there are more rows than the stored head says, the last row
    /// counts, so that a manipulated head blocks nothing.
    pub(crate) async fn audit_head(&mut self, chain: &str) -> Result<Head> {
        const SQL: &str = "SELECT seq, hash FROM (\
             SELECT seq, hash FROM audit_heads WHERE chain = $1 UNION ALL \
             (SELECT seq, hash FROM audit WHERE chain = $1 ORDER BY seq DESC LIMIT 1)) AS ends \
             ORDER BY seq DESC LIMIT 1";
        let rows = self.fetch(sqlx::query(SQL).bind(chain)).await?;
        let row = rows.into_iter().next();
        row.map_or(Ok(Head::EMPTY), |row| audit::head(&row.into()))
    }

    /// Two processes that append to one chain conflict on the same rows: one of them waits, gets a
    /// unique violation, and retries from the new head.
    pub(super) async fn record(&mut self, recorded: &Recorded<'_>) -> Result<()> {
        const SQL: &str = "WITH added AS (\
             INSERT INTO audit (chain, seq, at, peer, certificate, queue, action, message, task, body, answer, hash) \
             SELECT $1, v.* FROM UNNEST($2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], \
             $9::text[], $10::bytea[], $11::text[], $12::bytea[]) AS v) \
             INSERT INTO audit_heads (chain, seq, hash) VALUES ($1, $13, $14) \
             ON CONFLICT (chain) DO UPDATE SET seq = excluded.seq, hash = excluded.hash";
        let Recorded { chain, links } = recorded;
        let Some(last) = links.last() else {
            return Ok(());
        };
        let query = sqlx::query(SQL)
            .bind(*chain)
            .bind(column(links, |link| link.seq))
            .bind(column(links, |link| link.entry.at.as_microsecond()))
            .bind(column(links, |link| &*link.entry.peer))
            .bind(column(links, |link| link.entry.certificate.as_deref()))
            .bind(column(links, |link| &*link.entry.queue))
            .bind(column(links, |link| &*link.entry.action))
            .bind(column(links, |link| link.entry.message.as_deref()))
            .bind(column(links, |link| link.entry.task.as_deref()))
            .bind(column(links, |link| link.entry.body.0.as_slice()))
            .bind(column(links, |link| &*link.entry.answer))
            .bind(column(links, |link| link.hash.0.as_slice()))
            .bind(last.seq)
            .bind(last.hash.0.as_slice());
        self.fetch(query).await.map(drop)
    }
}
