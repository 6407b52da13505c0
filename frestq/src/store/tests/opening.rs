//! Making, opening and refusing databases.

use std::sync::Arc;

use super::harness::{Database, create, load, new_task, peer};
use crate::store::{OpenMode, Store};

on_both!(
    createdb_is_safe_to_repeat,
    createdb_upgrades_a_database_of_an_older_version,
    createdb_is_safe_for_several_at_once,
    createdb_of_a_newer_version_is_kept,
    a_database_without_tables_names_the_command,
    a_database_that_is_not_there_names_the_command,
    tables_of_a_newer_version_are_refused,
    the_applications_tables_are_made_beside_ours,
    looking_is_possible_beside_a_serving_process,
);

async fn createdb_is_safe_to_repeat(database: Arc<Database>) {
    let store = database.store().await;
    let before = peer(&store, "b").await;
    create(&mut store.writer().await.unwrap(), &[new_task("a")]).await;
    store.close().await;
    drop(store);

    let store = database.store().await;
    assert_eq!(peer(&store, "b").await, before);
    let mut writer = store.writer().await.unwrap();
    assert!(load(&mut writer, "a").await.is_some());
}

async fn createdb_upgrades_a_database_of_an_older_version(database: Arc<Database>) {
    let store = database.store().await;
    create(&mut store.writer().await.unwrap(), &[new_task("a")]).await;
    // As the first version made it.
    store
        .run_schema(&[
            "ALTER TABLE tasks DROP COLUMN trace",
            "DELETE FROM _frestq_migrations WHERE version > 1",
        ])
        .await
        .unwrap();
    store.close().await;
    drop(store);
    let refusal = database.refusal(OpenMode::Serve).await;
    assert!(
        refusal.contains("version 1") && refusal.contains("--createdb"),
        "{refusal}"
    );

    let store = database.store().await;
    let mut writer = store.writer().await.unwrap();
    assert_eq!(load(&mut writer, "a").await.unwrap().trace, None);
    let mut traced = new_task("b");
    traced.state.trace = Some("request 7".into());
    create(&mut writer, &[traced]).await;
    let found = load(&mut writer, "b").await.unwrap();
    assert_eq!(found.trace.as_deref(), Some("request 7"));
}

async fn createdb_is_safe_for_several_at_once(database: Arc<Database>) {
    let makers: Vec<_> = (0..4)
        .map(|_| {
            let url = database.url.clone();
            tokio::spawn(async move { Store::open(&url, OpenMode::Create).await.map(drop) })
        })
        .collect();
    for maker in makers {
        maker.await.unwrap().unwrap();
    }
    assert_eq!(database.store().await.peers().await.unwrap().len(), 1);
}

async fn createdb_of_a_newer_version_is_kept(database: Arc<Database>) {
    make_newer(&database).await;
    let refusal = database.refusal(OpenMode::Create).await;
    assert!(refusal.contains("version 9999"), "{refusal}");
}

async fn a_database_without_tables_names_the_command(database: Arc<Database>) {
    database.make_empty().await;
    for purpose in [OpenMode::Serve, OpenMode::Look] {
        let refusal = database.refusal(purpose).await;
        assert!(refusal.contains("no tables of frestq yet"), "{refusal}");
        assert!(refusal.contains("--createdb"), "{refusal}");
    }
}

async fn a_database_that_is_not_there_names_the_command(database: Arc<Database>) {
    let refusal = database.refusal(OpenMode::Serve).await;
    assert!(refusal.contains("--createdb"), "{refusal}");
}

async fn tables_of_a_newer_version_are_refused(database: Arc<Database>) {
    make_newer(&database).await;
    let refusal = database.refusal(OpenMode::Serve).await;
    assert!(refusal.contains("run the newer binary"), "{refusal}");
}

async fn make_newer(database: &Database) {
    let store = database.store().await;
    store
        .run_schema(&["UPDATE _frestq_migrations SET version = 9999 WHERE version = 1"])
        .await
        .unwrap();
    store.close().await;
}

async fn the_applications_tables_are_made_beside_ours(database: Arc<Database>) {
    let store = database.store().await;
    let schema = [
        "CREATE TABLE IF NOT EXISTS votes (id BIGINT PRIMARY KEY)",
        "CREATE TABLE IF NOT EXISTS ballots (id BIGINT PRIMARY KEY); CREATE INDEX IF NOT EXISTS b ON ballots (id)",
    ];
    for _ in 0..2 {
        store.run_schema(&schema).await.unwrap();
    }
    assert!(
        store
            .run_schema(&["CREATE TABEL x (y TEXT)"])
            .await
            .is_err()
    );
}

async fn looking_is_possible_beside_a_serving_process(database: Arc<Database>) {
    let serving = database.store().await;
    create(&mut serving.writer().await.unwrap(), &[new_task("a")]).await;
    let looking = database.open(OpenMode::Look).await;
    assert_eq!(looking.find_tasks("a", 5).await.unwrap().len(), 1);
}

mod one_process {
    use super::*;
    use crate::store::tests::harness::sqlite;

    #[tokio::test]
    async fn a_second_serving_process_on_sqlite_is_refused() {
        sqlite(|database| async move {
            let first = database.store().await;
            let refusal = database.refusal(OpenMode::Serve).await;
            assert!(refusal.contains("another process serves it"), "{refusal}");
            assert!(refusal.contains("Postgres"), "{refusal}");
            drop(first);
            database.open(OpenMode::Serve).await;
        })
        .await;
    }

    #[tokio::test]
    async fn another_name_of_the_file_is_no_way_around() {
        sqlite(|database| async move {
            let _first = database.store().await;
            let file = database.url.strip_prefix("sqlite:").unwrap();
            let link = format!("{file}.link");
            std::os::unix::fs::symlink(file, &link).unwrap();
            let second = Store::open(&format!("sqlite:{link}"), OpenMode::Serve).await;
            let refusal = second.unwrap_err().to_string();
            assert!(refusal.contains("another process serves it"), "{refusal}");
        })
        .await;
    }
}

mod addresses {
    use super::*;

    async fn refusal(url: &str) -> String {
        match Store::open(url, OpenMode::Serve).await {
            Ok(_) => panic!("it opened"),
            Err(error) => format!("{error} {error:?}"),
        }
    }

    #[tokio::test]
    async fn an_unknown_kind_of_database_is_refused() {
        let refusal = refusal("mysql://root:secret@host/db").await;
        assert!(refusal.contains("sqlite:PATH"), "{refusal}");
        assert!(!refusal.contains("secret"), "{refusal}");
    }

    #[tokio::test]
    async fn a_password_is_never_shown() {
        for url in [
            "postgres://me:secret@127.0.0.1:1/peer",
            "postgresql://127.0.0.1:1/peer?user=me&password=secret",
            "postgres://me:secret@127.0.0.1:port/peer",
            "postgres://me:secret@[::1/peer",
            "postgres://me:secret@127.0.0.1/peer?sslmode=secret",
        ] {
            let refusal = refusal(url).await;
            assert!(!refusal.contains("secret"), "{refusal}");
        }
    }

    #[tokio::test]
    async fn a_server_that_does_not_answer_is_named() {
        let refusal = refusal("postgres://me:secret@127.0.0.1:1/peer").await;
        assert!(
            refusal.contains("postgres://me@127.0.0.1:1/peer"),
            "{refusal}"
        );
        assert!(refusal.contains("refused"), "{refusal}");
    }
}
