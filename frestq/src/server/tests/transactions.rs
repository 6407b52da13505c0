//! A handler's statements must not hold up the others.

use std::{sync::Arc, time::Duration};

use crate::server::tests::{App, settle};
use crate::{
    api::prelude::*,
    store::{
        Store,
        tests::harness::{Database, postgres, sqlite},
    },
};

#[frestq::task(queue = "clocked", action = "slow_statement")]
async fn slow_statement(sql: String, task: Task) -> anyhow::Result<()> {
    task.transaction(|transaction| transaction.execute(sql, ()));
    Ok(())
}

async fn a_slow_statement_fails_its_run_and_no_other(database: Arc<Database>) {
    let store = database.store().await;
    store
        .run_schema(&["CREATE TABLE numbers (n BIGINT)"])
        .await
        .unwrap();
    let slow = match store {
        Store::Sqlite(_) => {
            "SELECT max(i) FROM (WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n \
             WHERE i < 1000000000000) SELECT i FROM n) AS n"
        }
        Store::Postgres(_) => "SELECT 1 FROM pg_sleep(600)",
    };
    store.close().await;
    drop(store);
    let mut app = App::new();
    app.config.database = Some(database.url.clone());
    app.config.bind = Some(([127, 0, 0, 1], 0).into());
    app.config.transaction_timeout = Duration::from_millis(100);
    let running = app.start_bound().await.unwrap();
    let peer = running.handle();
    for sql in [slow.to_owned(), format!("INSERT INTO numbers {slow}")] {
        let task = SimpleTask::new(peer.url(), "clocked", "slow_statement").data(sql);
        let sent = peer.send(task).await.unwrap();
        settle(peer).await;
        let error = sent.output().await.unwrap_err();
        let error = error.with_causes().to_string();
        assert!(error.contains("transaction_timeout"), "{error}");
    }
    running.stop().await;
}

#[tokio::test]
async fn a_slow_statement_fails_its_run_and_no_other_on_sqlite() {
    sqlite(a_slow_statement_fails_its_run_and_no_other).await;
}

#[tokio::test]
async fn a_slow_statement_fails_its_run_and_no_other_on_postgres() {
    postgres(a_slow_statement_fails_its_run_and_no_other).await;
}
