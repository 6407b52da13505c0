//! The only place that knows sqlx: SQLite for one serving process, Postgres for several.
//!
//! May import `model`.
//!
//! [`Writer`] is the one connection through which a process changes tasks and messages, a batch a
//! transaction, a statement a table and not a row. [`Store`] reads beside it, and keeps the few
//! rows that belong to no task: peers and nodes.
//!
//! `task_columns` defines what a task's row holds; readers and statements are made from it.
//! Statements that are the same on both databases are in `read`, and `rows` reads what they
//! return. The rest, where each database has its own best way, is in a module of its own.

mod audit;
mod database;
mod due;
mod either;
mod error;
mod fields;
mod filter;
mod handlers;
mod loads;
mod migrations;
mod old;
mod peer_rows;
#[cfg(feature = "postgres")]
mod postgres;
mod pruning;
mod read;
mod registrations;
mod requests;
mod rows;
mod sql;
#[cfg(feature = "sqlite")]
mod sqlite;
mod task_columns;
#[cfg(test)]
pub(crate) mod tests;
mod text;
mod writer;
mod writes;

pub(crate) use audit::Chained;
pub(crate) use database::Store;
#[cfg(test)]
pub(crate) use due::Due;
pub(crate) use due::Wake;
pub(crate) use error::{is_transient, was_there};
pub(crate) use filter::{AUDIT_FIELDS, Filters, MESSAGE_FIELDS, TASK_FIELDS};
pub(crate) use handlers::{Ran, StatementFailure};
pub(crate) use loads::{Content, Loaded, Lookup, Waiting};
pub(crate) use migrations::OpenMode;
pub(crate) use old::{Page, Place};
pub(crate) use peer_rows::{Contact, PeerHealth, PeerRow};
pub(crate) use pruning::{Pruned, Step};
pub(crate) use requests::{Request, Stage};
pub(crate) use writer::Writer;
pub(crate) use writes::{NewPayload, OutboxState, Recorded, Settled, Writes};
