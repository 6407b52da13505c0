//! What the command line asks a serving process for: the same statements on both databases.
//!
//! A request is valid only while the command line waits for its answer. Its age goes by the
//! database's clock, which both processes share.

use super::{
    database::Store,
    either::on_either,
    fields::{Fields, Row},
    sql::sql,
    text::printable,
};
use crate::model::{
    TaskId, codes,
    error::{Error, Result},
};

/// How long a request may be taken up, in microseconds: longer than a dead process's lease, so
/// that the asker can act himself before it is over.
const WORTH: i64 = 60_000_000;

/// After this long, in microseconds, a request that was taken counts as abandoned: a day.
const ABANDONED: i64 = 86_400_000_000;

/// A request that was taken.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) seq: i64,
    pub(crate) kind: String,
    /// The task that it is about, or the name of the peer.
    pub(crate) task: TaskId,
    pub(crate) argument: String,
}

/// The state of a request's row.
#[derive(Clone, Copy)]
enum State {
    Pending,
    Taken,
    Done,
    Refused,
}

codes!(State {
    Pending = 0,
    Taken = 1,
    Done = 2,
    Refused = 3,
});

const PENDING: i64 = State::Pending.code();
const TAKEN: i64 = State::Taken.code();

/// How far a request is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Pending,
    /// A process has begun with it.
    Taken,
    /// It was done; this is what there is to say.
    Done(String),
    /// It can't be done; this is why.
    Refused(String),
}

impl Store {
    /// Now, as the database sees it.
    fn clock(&self) -> &'static str {
        on_either!(
            self,
            sqlite(_) => "CAST(unixepoch('subsec') * 1000000 AS INTEGER)",
            postgres(_) => "(extract(epoch FROM now()) * 1000000)::bigint",
        )
    }

    /// Stores a request for the serving process; returns its number.
    pub(crate) async fn ask(&self, kind: &str, task: &TaskId, argument: &str) -> Result<i64> {
        let now = self.clock();
        let sql = format!(
            "INSERT INTO requests (kind, task, argument, created_at) VALUES ($1, $2, $3, {now}) RETURNING seq"
        );
        let values = vec![kind.into(), task.as_str().into(), argument.into()];
        let mut rows = self
            .fetch(sqlx::AssertSqlSafe(sql), values, |row| row.get(0))
            .await?;
        Ok(rows.pop().ok_or(sqlx::Error::RowNotFound)?)
    }

    /// Takes a request, so that no other process does it too.
    pub(crate) async fn take_request(&self) -> Result<Option<Request>> {
        let worth = format!(
            "state = {PENDING} AND created_at > {} - {WORTH}",
            self.clock()
        );
        // Looking costs no lock, so that it can be done often.
        let look = format!("SELECT seq FROM requests WHERE {worth} ORDER BY seq LIMIT 1");
        let found = self
            .fetch(sqlx::AssertSqlSafe(look), Vec::new(), |row| {
                row.get::<i64>(0)
            })
            .await?;
        let Some(seq) = found.first() else {
            return Ok(None);
        };
        let take = format!(
            "UPDATE requests SET state = {TAKEN} WHERE seq = $1 AND {worth} RETURNING seq, kind, task, argument"
        );
        let mut taken = self
            .fetch(sqlx::AssertSqlSafe(take), vec![(*seq).into()], request)
            .await?;
        Ok(taken.pop())
    }

    /// Answers a request that was taken.
    pub(crate) async fn answer_request(&self, seq: i64, answer: &Result<String>) -> Result<()> {
        const SQL: &str = "UPDATE requests SET state = $2, answer = $3 WHERE seq = $1";
        let (state, text) = match answer {
            Ok(said) => (State::Done, said.clone()),
            Err(error) => (State::Refused, error.to_string()),
        };
        let values = vec![seq.into(), state.code().into(), printable(&text).into()];
        self.fetch(SQL, values, |_| Ok(())).await?;
        Ok(())
    }

    /// How far a request is.
    pub(crate) async fn request_stage(&self, seq: i64) -> Result<Stage> {
        const SQL: &str = "SELECT state, answer FROM requests WHERE seq = $1";
        let mut found = self.fetch(SQL, vec![seq.into()], stage).await?;
        found
            .pop()
            .ok_or_else(|| Error::Invalid("the request was removed by another process".into()))
    }

    /// Removes a request that was not taken yet; `false`: it was taken.
    pub(crate) async fn withdraw_request(&self, seq: i64) -> Result<bool> {
        let sql = sql!("DELETE FROM requests WHERE seq = $1 AND state = {PENDING} RETURNING seq");
        let gone = self.fetch(sql, vec![seq.into()], |_| Ok(())).await?;
        Ok(!gone.is_empty())
    }

    /// Removes an answered request, and others that expired long ago. A request that was taken may
    /// take long, so it stays.
    pub(crate) async fn forget_request(&self, seq: i64) -> Result<()> {
        let sql = format!(
            "DELETE FROM requests WHERE seq = $1 OR (state <> {TAKEN} AND created_at < {now} - 10 * {WORTH}) \
             OR created_at < {now} - {ABANDONED}",
            now = self.clock()
        );
        self.fetch(sqlx::AssertSqlSafe(sql), vec![seq.into()], |_| Ok(()))
            .await?;
        Ok(())
    }
}

fn request(row: &Row) -> Result<Request> {
    let row = &mut Fields::of("requests", row);
    Ok(Request {
        seq: row.get()?,
        kind: row.get()?,
        task: row.text()?,
        argument: row.get()?,
    })
}

/// `state, answer`
fn stage(row: &Row) -> Result<Stage> {
    let row = &mut Fields::of("requests", row);
    let state = row.code(State::from_code)?;
    let answer = row.get::<Option<String>>()?.unwrap_or_default();
    Ok(match state {
        State::Pending => Stage::Pending,
        State::Taken => Stage::Taken,
        State::Done => Stage::Done(answer),
        State::Refused => Stage::Refused(answer),
    })
}
