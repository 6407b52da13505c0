//! The audit's rows, read the same way from both databases.

use super::{Filter, Filters, Store, read::values, rows};
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

fn chained(row: &rows::Row) -> Result<Chained> {
    let seq: Option<i64> = row.get(1)?;
    Ok(Chained {
        name: row.get(0)?,
        head: match seq {
            Some(seq) => Head {
                seq,
                hash: digest(row.get(2)?),
            },
            None => Head::EMPTY,
        },
        last: row.get::<Option<i64>>(3)?.unwrap_or_default(),
    })
}

/// `seq, hash`
pub(super) fn head(row: &rows::Row) -> Result<Head> {
    Ok(Head {
        seq: row.get(0)?,
        hash: digest(row.get(1)?),
    })
}

/// A row as it is. What no row of ours can hold becomes something else that its hash is not of.
fn link(row: &rows::Row) -> Result<Link> {
    let optional = |index| -> Result<Option<Box<str>>> {
        Ok(row.get::<Option<String>>(index)?.map(Into::into))
    };
    let text = |index| -> Result<Box<str>> { Ok(row.get::<String>(index)?.into()) };
    let at = jiff::Timestamp::from_microsecond(row.get(2)?);
    Ok(Link {
        seq: row.get(0)?,
        hash: digest(row.get(1)?),
        entry: Entry {
            at: at.unwrap_or(jiff::Timestamp::MIN),
            peer: text(3)?,
            certificate: optional(4)?,
            queue: text(5)?.into(),
            action: text(6)?.into(),
            message: optional(7)?,
            task: optional(8)?,
            body: digest(row.get(9)?),
            answer: text(10)?,
        },
    })
}

fn digest(bytes: Vec<u8>) -> Digest {
    Digest(bytes.try_into().unwrap_or_default())
}
