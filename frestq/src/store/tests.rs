//! The store's promises, each kept on both databases.
//!
//! On Postgres they are checked where `FRESTQ_TEST_POSTGRES` names a server on which databases
//! may be made, such as `.ci/postgres start` gives.

/// Declares tests that run on SQLite and on Postgres, each on a fresh database with our tables.
macro_rules! on_both {
    ($($test:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test] async fn $test() { crate::store::tests::harness::sqlite(super::$test).await })+
        }
        mod postgres {
            $(#[tokio::test] async fn $test() { crate::store::tests::harness::postgres(super::$test).await })+
        }
    };
}

/// Declares tests of what holds on Postgres alone.
macro_rules! on_postgres {
    ($($test:ident),+ $(,)?) => {
        mod postgres {
            $(#[tokio::test] async fn $test() { crate::store::tests::harness::postgres(super::$test).await })+
        }
    };
}

mod audit;
mod handlers;
pub(crate) mod harness;
mod opening;
mod outbox;
mod peers;
mod processes;
mod pruning;
mod records;
mod tasks;
mod wakes;
