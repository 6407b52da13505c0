//! What may be removed for its age, found beside the writer a page at a time.
//!
//! Trees are found through the index of ended roots, messages by going along their tables from the
//! oldest one on.

use jiff::Timestamp;

use super::{
    database::Store,
    fields::{Fields, Row},
    pruning::stays,
    sql::{ENDED, PENDING, sql},
};
use crate::model::error::Result;

/// How many trees, or messages, are looked at with one statement.
const PAGE: i64 = 500;

/// A place among the ended roots: when the root was last changed, and its number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place(i64, i64);

impl Place {
    pub(crate) const FIRST: Self = Self(i64::MIN, i64::MIN);
}

/// A tree whose root has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) place: Place,
    /// Its tasks, each after those below it; none if any of them has to stay.
    pub(crate) tasks: Vec<i64>,
}

/// Messages of a table, from one place on.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) gone: Vec<i64>,
    pub(crate) emptied: Vec<i64>,
    /// Where to read on; `None`: there is nothing old enough behind it.
    pub(crate) next: Option<i64>,
}

/// What becomes of a message, or a task.
const STAYS: i64 = 0;
const EMPTIED: i64 = 1;
const GONE: i64 = 2;

impl Store {
    /// Trees whose root was last changed before a moment, behind a place.
    pub(crate) async fn ended_trees(&self, before: Timestamp, after: Place) -> Result<Vec<Ended>> {
        let sql = sql!(
            "WITH RECURSIVE page AS (SELECT id, seq, modified_at FROM tasks \
             WHERE status >= {ENDED} AND parent IS NULL AND pruned_at IS NULL AND modified_at < $1 \
             AND (modified_at, seq) > ($2, $3) ORDER BY modified_at, seq LIMIT $4), \
             tree (root, id) AS (SELECT id, id FROM page UNION \
             SELECT tree.root, c.id FROM tree JOIN tasks c ON c.parent = tree.id) \
             SELECT p.modified_at, p.seq, t.seq, CAST(CASE WHEN {} \
             THEN {STAYS} ELSE {GONE} END AS BIGINT) FROM page p JOIN tree ON tree.root = p.id JOIN tasks t ON t.id = tree.id \
             ORDER BY p.modified_at, p.seq, t.seq DESC",
            stays("$1"),
        );
        let values = vec![
            before.as_microsecond().into(),
            after.0.into(),
            after.1.into(),
            PAGE.into(),
        ];
        let rows = self
            .fetch(sql, values, |row| {
                let row = &mut Fields::of("tasks", row);
                let place = Place(row.get()?, row.get()?);
                Ok((place, row.get::<i64>()?, row.get::<i64>()? == STAYS))
            })
            .await?;
        let of_one_tree = rows.chunk_by(|one, other| one.0.1 == other.0.1);
        let ended = of_one_tree.filter_map(|tree| {
            let place = tree.first()?.0;
            let stays = tree.iter().any(|(.., stays)| *stays);
            let tasks = match stays {
                true => Vec::new(),
                false => tree.iter().map(|(_, seq, _)| *seq).collect(),
            };
            Some(Ended { place, tasks })
        });
        Ok(ended.collect())
    }

    /// Sent messages behind a place that were made before a moment, are not on their way any
    /// more, and whose task is gone.
    pub(crate) async fn old_sent(&self, before: Timestamp, after: i64) -> Result<Page> {
        let sql = sql!(
            "SELECT m.seq, m.created_at, CAST(CASE \
             WHEN m.state = {PENDING} OR m.created_at >= $1 OR (t.id IS NOT NULL AND t.pruned_at IS NULL) THEN {STAYS} ELSE {GONE} END AS BIGINT) \
             FROM (SELECT seq, created_at, state, task FROM outbox WHERE seq > $2 ORDER BY seq LIMIT $3) m \
             LEFT JOIN tasks t ON t.id = m.task ORDER BY m.seq"
        );
        let at = before.as_microsecond();
        let values = vec![at.into(), after.into(), PAGE.into()];
        Ok(page(self.fetch(sql, values, fate).await?, at))
    }

    /// Received messages behind a place whose task is gone: those from before `before` lose their
    /// payload, those from before `forgotten` go, unless its
    /// task has not expired by then, which is how long its sender may try. One that carried no
    /// task stays without its payload, since nothing else tells that it was here.
    pub(crate) async fn old_received(
        &self,
        before: Timestamp,
        forgotten: Timestamp,
        after: i64,
    ) -> Result<Page> {
        let sql = sql!(
            "SELECT m.seq, m.received_at, CAST(CASE \
             WHEN m.received_at >= $1 THEN 0 \
             WHEN m.queue <> 'internal.frestq' AND m.data IS NOT NULL THEN 1 \
             WHEN t.id IS NOT NULL AND t.pruned_at IS NULL THEN 0 \
             WHEN m.received_at < $2 AND (t.expires_at IS NULL OR t.expires_at < $2) THEN {GONE} \
             WHEN m.data IS NOT NULL AND m.data <> 'null' THEN {EMPTIED} ELSE {STAYS} END AS BIGINT) \
             FROM (SELECT seq, received_at, queue, task, data FROM inbox WHERE seq > $3 \
             AND (queue = 'internal.frestq' OR data IS NULL OR data <> 'null') ORDER BY seq LIMIT $4) m \
             LEFT JOIN tasks t ON t.id = m.task ORDER BY m.seq"
        );
        let at = before.as_microsecond();
        let values = vec![
            at.into(),
            forgotten.as_microsecond().into(),
            after.into(),
            PAGE.into(),
        ];
        Ok(page(self.fetch(sql, values, fate).await?, at))
    }
}

/// `seq, at, fate`
fn fate(row: &Row) -> Result<(i64, i64, i64)> {
    let row = &mut Fields::of("messages", row);
    Ok((row.get()?, row.get()?, row.get()?))
}

fn page(rows: Vec<(i64, i64, i64)>, before: i64) -> Page {
    let mut page = Page::default();
    // Places are given in the order of time, or nearly so: what is late is found the next time.
    let goes_on = rows.last().filter(|(_, at, _)| *at < before);
    page.next = goes_on.map(|(seq, ..)| *seq);
    for (seq, _, fate) in rows {
        match fate {
            STAYS => {}
            EMPTIED => page.emptied.push(seq),
            _ => page.gone.push(seq),
        }
    }
    page
}
