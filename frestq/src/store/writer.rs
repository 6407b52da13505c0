//! The connection that writes, whichever database it is of.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    either::on_either,
    handlers::Ran,
    loads::{Content, Loaded, Lookup, Waiting},
    pruning::{Pruned, Step},
    writes::Writes,
};
use crate::model::{MessageId, TaskId, audit::Head, error::Result, statements::Transaction};

/// The connection through which this process writes. One transaction at a time.
pub(crate) enum Writer {
    #[cfg(feature = "sqlite")]
    Sqlite(super::sqlite::SqliteWriter),
    #[cfg(feature = "postgres")]
    Postgres(super::postgres::PgWriter),
}

impl Writer {
    pub(crate) async fn begin(&mut self) -> Result<()> {
        on_either!(self, writer => writer.begin().await)
    }

    /// Makes the transaction true; gives the place in the outbox of each message that it stored.
    pub(crate) async fn commit(&mut self) -> Result<Vec<(MessageId, i64)>> {
        on_either!(self, writer => writer.commit().await)
    }

    /// Undoes the open transaction, if any, and leaves the connection usable.
    pub(crate) async fn rollback(&mut self) -> Result<()> {
        on_either!(self, writer => writer.rollback().await)
    }

    /// Loads task states, locked against other processes until the end of the transaction, and the
    /// hashes of accepted messages.
    pub(crate) async fn load(&mut self, lookup: &Lookup<'_>) -> Result<Loaded> {
        on_either!(self, writer => writer.load(lookup).await)
    }

    /// Loads what is needed to send tasks whose turn has come.
    pub(crate) async fn contents(&mut self, ids: &[&TaskId]) -> Result<Vec<(TaskId, Content)>> {
        on_either!(self, writer => writer.contents(ids).await)
    }

    /// Runs a handler's statements, for at most as long as that; if one fails, none of them has
    /// happened.
    pub(crate) async fn run(
        &mut self,
        transaction: &Transaction,
        longest: Duration,
    ) -> Result<Ran> {
        on_either!(self, writer => writer.run(transaction, longest).await)
    }

    /// Writes all of it.
    pub(crate) async fn save(&mut self, writes: &Writes<'_>) -> Result<()> {
        on_either!(self, writer => writer.save(writes).await)
    }

    /// How far a chain of the audit goes.
    pub(crate) async fn audit_head(&mut self, chain: &str) -> Result<Head> {
        on_either!(self, writer => writer.audit_head(chain).await)
    }

    /// Removes what is old, as far as that is still so.
    pub(crate) async fn prune(&mut self, step: &Step, now: Timestamp) -> Result<Pruned> {
        on_either!(self, writer => writer.prune(step, now).await)
    }

    /// Tasks of a queue that wait for a slot, in order, with their inputs.
    pub(crate) async fn waiting(
        &mut self,
        queue: &str,
        limit: i64,
        now: Timestamp,
    ) -> Result<Vec<Waiting>> {
        on_either!(self, writer => writer.waiting(queue, limit, now).await)
    }
}
