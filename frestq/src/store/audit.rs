//! The audit's rows, read the same way from both databases.

use super::{
    database::Store,
    fields::{Fields, Row},
    filter::{Filter, Filters},
    read::values,
};
use crate::model::{
    audit::{Digest, Entry, Head, Link},
    error::Result,
};

/// How many rows are in memory at a time.
const PAGE: i64 = 1000;

/// The columns of a [`Link`], in the order in which [`link`] reads them.
const COLUMNS: &str = "a.seq, a.hash, a.at, a.peer, a.certificate, a.queue, a.action, a.message, a.task, a.body, a.answer";

/// A chain that there is something of.
#[derive(Debug)]
pub(crate) struct Chained {
    pub(crate) name: String,
    /// Its head as it is kept apart.
    pub(crate) head: Head,
    /// The number of its last row.
    pub(crate) last: i64,
}

impl Store {
    /// All chains, each with its head and its end at one and the same moment.
    pub(crate) async fn audit_chains(&self) -> Result<Vec<Chained>> {
        // From one name to the next, not from row to row.
        const SQL: &str = "WITH RECURSIVE names (chain) AS (SELECT min(chain) FROM audit UNION ALL \
             SELECT (SELECT min(a.chain) FROM audit a WHERE a.chain > names.chain) FROM names WHERE names.chain IS NOT NULL) \
             SELECT c.chain, h.seq, h.hash, (SELECT max(seq) FROM audit WHERE chain = c.chain) \
             FROM (SELECT chain FROM audit_heads UNION SELECT chain FROM names WHERE chain IS NOT NULL) c \
             LEFT JOIN audit_heads h ON h.chain = c.chain ORDER BY c.chain";
        self.fetch(SQL, Vec::new(), chained).await
    }

    /// A page of a chain, in order.
    pub(crate) async fn audit_page(&self, chain: &str, after: i64, last: i64) -> Result<Vec<Link>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM audit a WHERE a.chain = $1 AND a.seq > $2 AND a.seq <= $3 ORDER BY a.seq LIMIT $4"
        );
        let values = vec![chain.into(), after.into(), last.into(), PAGE.into()];
        self.fetch(sqlx::AssertSqlSafe(sql), values, link).await
    }

    /// The rows that match, newest first, each with the name of its chain.
    pub(crate) async fn audited(
        &self,
        filters: &Filters,
        limit: i64,
    ) -> Result<Vec<(String, Link)>> {
        const CHAINS: &str = "SELECT chain FROM audit_heads ORDER BY chain";
        let chains: Vec<String> = self.fetch(CHAINS, Vec::new(), |row| row.get(0)).await?;
        let mut found = Vec::new();
        for chain in chains {
            // Each chain is in the order of time already, so none needs to be sorted as a whole.
            let mut filters = filters.clone();
            filters.0.push(Filter::Text {
                sql: "a.chain",
                value: chain.clone(),
            });
            let sql = format!(
                "SELECT {COLUMNS} FROM audit a{} ORDER BY a.seq DESC LIMIT $1",
                filters.to_sql(2)
            );
            let values = values(limit, &filters);
            let links = self.fetch(sqlx::AssertSqlSafe(sql), values, link).await?;
            found.extend(links.into_iter().map(|link| (chain.clone(), link)));
        }
        found.sort_by_key(|(_, link)| std::cmp::Reverse(link.entry.at));
        found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(found)
    }
}

/// `chain, head's seq, head's hash, last`
fn chained(row: &Row) -> Result<Chained> {
    let row = &mut Fields::of("audit_heads", row);
    let name = row.get()?;
    let (seq, hash) = (row.get::<Option<i64>>()?, row.get::<Option<Vec<u8>>>()?);
    Ok(Chained {
        name,
        head: match (seq, hash) {
            (Some(seq), hash) => Head {
                seq,
                hash: digest(hash.unwrap_or_default()),
            },
            (None, _) => Head::EMPTY,
        },
        last: row.get::<Option<i64>>()?.unwrap_or_default(),
    })
}

/// `seq, hash`
pub(super) fn head(row: &Row) -> Result<Head> {
    let row = &mut Fields::of("audit_heads", row);
    Ok(Head {
        seq: row.get()?,
        hash: digest(row.get()?),
    })
}

/// Reads a row without rejecting it. A value that frestq never writes is replaced, so that the
/// hash does not match.
fn link(row: &Row) -> Result<Link> {
    let row = &mut Fields::of("audit", row);
    Ok(Link {
        seq: row.get()?,
        hash: digest(row.get()?),
        entry: Entry {
            at: jiff::Timestamp::from_microsecond(row.get()?).unwrap_or(jiff::Timestamp::MIN),
            peer: row.text()?,
            certificate: row.text_if_any()?,
            queue: row.text()?,
            action: row.text()?,
            message: row.text_if_any()?,
            task: row.text_if_any()?,
            body: digest(row.get()?),
            answer: row.text()?,
        },
    })
}

fn digest(bytes: Vec<u8>) -> Digest {
    Digest(bytes.try_into().unwrap_or_default())
}
