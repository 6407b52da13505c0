//! Rows of the audit, written with what they tell of.

use super::write::SqliteWriter;
use crate::model::{audit::Head, error::Result};
use crate::store::audit;

impl SqliteWriter {
    /// The head of a chain. If there are more rows than the stored head says, the last row
    /// counts, so that a manipulated head blocks nothing.
    pub(crate) async fn audit_head(&mut self, chain: &str) -> Result<Head> {
        const SQL: &str = "SELECT seq, hash FROM (\
             SELECT seq, hash FROM audit_heads WHERE chain = ? UNION ALL \
             SELECT * FROM (SELECT seq, hash FROM audit WHERE chain = ? ORDER BY seq DESC LIMIT 1)) \
             ORDER BY seq DESC LIMIT 1";
        let rows = self.fetch(SQL, vec![chain.into(), chain.into()]).await?;
        rows.first().map_or(Ok(Head::EMPTY), audit::head)
    }
}
