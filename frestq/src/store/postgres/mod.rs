//! Postgres: several serving processes may share a database and be one peer.
//!
//! Rows are claimed under row locks, leases go by the database's clock, and a process notifies
//! the others with `NOTIFY` of what it has committed.

mod audit;
mod connect;
mod database;
mod handlers;
mod listen;
mod nodes;
mod notify;
mod pruning;
mod query;
mod save;
mod write;

pub(super) use database::Postgres;
pub(super) use query::query;
pub(super) use write::PgWriter;
