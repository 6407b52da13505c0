//! The store's promises, each kept on both databases.
//!
//! On Postgres they are checked where `FRESTQ_TEST_POSTGRES` names a server on which databases may be
//! made, such as `.ci/postgres start` gives.

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

mod handlers;
mod harness;
mod opening;
mod outbox;
mod processes;
mod records;
mod tasks;
mod wakes;
fn s<T: Send>(_: T) {}
#[allow(unused)]
fn x(st: &crate::store::Store, w: &mut crate::store::Writer, t: &crate::transaction::Transaction, wr: &crate::store::Writes<'_>) {
    use crate::store::*;
    s(Store::open("x", Purpose::Create));
    s(st.run_schema(&["x"]));
    s(st.peers());
    s(st.orphans(1));
    s(st.wakes());
    s(w.begin());
    s(w.commit());
    s(w.rollback());
    s(w.run(t));
    s(w.save(wr));
    s(w.load_tasks(&[]));
    s(w.load_inbox(&[]));
    s(w.waiting("", 1, jiff::Timestamp::MAX));
    s(st.tasks(&Default::default(), 1));
    s(st.due(jiff::Timestamp::MAX, 1));
    s(st.join("", jiff::Timestamp::MAX));
    s(st.claim_delivery(crate::model::PeerId(1), crate::model::NodeId(1)));
}
