//! SQLite: WAL, a full sync at every commit, one serving process.

mod audit;
mod database;
mod encode;
mod handlers;
mod limit;
mod nodes;
mod pruning;
mod query;
mod write;

pub(super) use database::Sqlite;
pub(super) use write::SqliteWriter;
