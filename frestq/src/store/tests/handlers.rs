//! A handler's own statements, within the transaction that completes its task.

use std::{sync::Arc, time::Duration};

use super::harness::{Database, create, load, new_task};
use crate::{
    model::statements::{Param, Transaction},
    store::{Ran, Store, Writer, Writes},
};

on_both!(
    a_handlers_statements_commit_with_its_task,
    a_failed_statement_of_a_handler_undoes_its_earlier_ones,
    a_unique_violation_of_a_handlers_own_table_is_its_own_failure,
    null_fits_a_column_of_any_type,
    one_statement_takes_values_of_different_types,
    a_statement_that_reads_too_long_fails_alone,
    a_statement_that_writes_too_long_fails,
    statements_have_their_time_together,
);

/// More than any statement of these tests takes.
const LONG: Duration = Duration::from_secs(60);
/// Less than one takes that is to be too slow.
const SHORT: Duration = Duration::from_millis(200);

async fn run(writer: &mut Writer, transaction: &Transaction) -> Result<(), String> {
    match writer.run(transaction, LONG).await.unwrap() {
        Ran::Done => Ok(()),
        Ran::Failed(why) | Ran::Undone(why) => Err(why.to_string()),
    }
}

/// A query that takes minutes.
fn slow(store: &Store) -> &'static str {
    match store {
        Store::Sqlite(_) => {
            "SELECT max(i) FROM (WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n \
             WHERE i < 1000000000000) SELECT i FROM n) AS n"
        }
        Store::Postgres(_) => "SELECT 1 FROM pg_sleep(600)",
    }
}

async fn a_statement_that_reads_too_long_fails_alone(database: Arc<Database>) {
    let (store, mut writer) = ready(&database).await;
    let [mut good, mut bad] = [(); 2].map(|()| Transaction::default());
    insert(&mut good, 1, "good");
    insert(&mut bad, 2, "bad");
    bad.execute(slow(&store), ());
    writer.begin().await.unwrap();
    run(&mut writer, &good).await.unwrap();
    match writer.run(&bad, SHORT).await.unwrap() {
        Ran::Failed(why) => assert!(why.public().contains("transaction_timeout"), "{why}"),
        other => panic!("{other:?}"),
    }
    // Its limit is not that of the others.
    let mut other = Transaction::default();
    insert(&mut other, 2, "other");
    run(&mut writer, &other).await.unwrap();
    writer.commit().await.unwrap();
    assert_eq!(names(&store).await, ["good", "other"]);
    create(&mut writer, &[new_task("a")]).await;
}

async fn a_statement_that_writes_too_long_fails(database: Arc<Database>) {
    let (store, mut writer) = ready(&database).await;
    let [mut good, mut bad] = [(); 2].map(|()| Transaction::default());
    insert(&mut good, 1, "good");
    bad.execute(format!("INSERT INTO votes (id) {}", slow(&store)), ());
    writer.begin().await.unwrap();
    run(&mut writer, &good).await.unwrap();
    let why = match (writer.run(&bad, SHORT).await.unwrap(), &store) {
        // SQLite undoes the whole transaction with it, which is then begun again.
        (Ran::Undone(why), Store::Sqlite(_)) => {
            writer.begin().await.unwrap();
            run(&mut writer, &good).await.unwrap();
            why
        }
        (Ran::Failed(why), Store::Postgres(_)) => why,
        (other, _) => panic!("{other:?}"),
    };
    assert!(why.public().contains("transaction_timeout"), "{why}");
    writer.commit().await.unwrap();
    assert_eq!(names(&store).await, ["good"]);
}

async fn statements_have_their_time_together(database: Arc<Database>) {
    let (store, mut writer) = ready(&database).await;
    let mut many = Transaction::default();
    let count = match store {
        Store::Sqlite(_) => {
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) \
             SELECT max(i) FROM n"
        }
        Store::Postgres(_) => "SELECT pg_sleep(0.02)",
    };
    for _ in 0..10_000 {
        many.execute(count, ());
    }
    writer.begin().await.unwrap();
    let start = std::time::Instant::now();
    let ran = writer.run(&many, SHORT).await.unwrap();
    assert!(matches!(ran, Ran::Failed(_)), "{ran:?}");
    assert!(start.elapsed() < SHORT * 20, "{:?}", start.elapsed());
}

async fn ready(database: &Database) -> (Store, Writer) {
    let store = database.store().await;
    let table =
        "CREATE TABLE votes (id BIGINT PRIMARY KEY, name TEXT, score DOUBLE PRECISION, raw BYTEA)";
    let table = match &store {
        Store::Sqlite(_) => table.replace("BYTEA", "BLOB"),
        Store::Postgres(_) => table.to_owned(),
    };
    store.run_schema(&[&table]).await.unwrap();
    let writer = store.writer().await.unwrap();
    (store, writer)
}

async fn names(store: &Store) -> Vec<String> {
    let sql = "SELECT coalesce(name, 'NULL') FROM votes ORDER BY id";
    store.fetch(sql, vec![], |row| row.get(0)).await.unwrap()
}

fn insert(transaction: &mut Transaction, id: i64, name: &str) {
    transaction.execute("INSERT INTO votes (id, name) VALUES ($1, $2)", (id, name));
}

async fn a_handlers_statements_commit_with_its_task(database: Arc<Database>) {
    let (store, mut writer) = ready(&database).await;
    let task = new_task("a");
    let writes = Writes {
        created: vec![(&task, &task.state, None)],
        ..Writes::default()
    };
    let mut transaction = Transaction::default();
    insert(&mut transaction, 1, "one");
    transaction.execute("UPDATE votes SET name = name || '!' -- and no more", ());
    for keep in [false, true] {
        writer.begin().await.unwrap();
        run(&mut writer, &transaction).await.unwrap();
        writer.save(&writes).await.unwrap();
        if keep {
            writer.commit().await.unwrap();
        } else {
            writer.rollback().await.unwrap();
            assert_eq!(names(&store).await, [""; 0]);
        }
    }
    assert_eq!(names(&store).await, ["one!"]);
    assert!(load(&mut writer, "a").await.is_some());
}

async fn a_failed_statement_of_a_handler_undoes_its_earlier_ones(database: Arc<Database>) {
    let (store, mut writer) = ready(&database).await;
    let [mut good, mut bad, mut other] = [(); 3].map(|()| Transaction::default());
    insert(&mut good, 1, "good");
    insert(&mut bad, 2, "bad");
    bad.execute("INSERT INTO no_such_table VALUES ($1)", (1_i64,));
    insert(&mut bad, 3, "never");
    insert(&mut other, 2, "other");

    writer.begin().await.unwrap();
    run(&mut writer, &good).await.unwrap();
    let why = run(&mut writer, &bad).await.unwrap_err();
    assert!(why.contains("no_such_table"), "{why}");
    run(&mut writer, &other).await.unwrap();
    writer.commit().await.unwrap();
    assert_eq!(names(&store).await, ["good", "other"]);
    // And the writer goes on.
    create(&mut writer, &[new_task("a")]).await;
}

async fn a_unique_violation_of_a_handlers_own_table_is_its_own_failure(database: Arc<Database>) {
    let (store, mut writer) = ready(&database).await;
    let mut transaction = Transaction::default();
    insert(&mut transaction, 1, "one");
    writer.begin().await.unwrap();
    run(&mut writer, &transaction).await.unwrap();
    run(&mut writer, &transaction).await.unwrap_err();
    writer.commit().await.unwrap();
    assert_eq!(names(&store).await, ["one"]);
}

async fn null_fits_a_column_of_any_type(database: Arc<Database>) {
    let (store, mut writer) = ready(&database).await;
    let mut transaction = Transaction::default();
    let sql = "INSERT INTO votes (id, name, score, raw) VALUES ($1, $2, $3, $4)";
    let nothing = None::<i64>;
    transaction.execute(sql, (1_i64, nothing, nothing, nothing));
    transaction.execute(sql, (2_i64, "two", 2.5, vec![0_u8, 255]));
    transaction.execute(sql, (3_i64, "three", nothing, vec![]));
    writer.begin().await.unwrap();
    run(&mut writer, &transaction).await.unwrap();
    writer.commit().await.unwrap();
    let sql = "SELECT id, name, score, raw FROM votes ORDER BY id";
    let rows = store
        .fetch(sql, vec![], |row| {
            Ok((
                row.get::<i64>(0)?,
                row.get::<Option<String>>(1)?,
                row.get::<Option<f64>>(2)?,
                row.get::<Option<Vec<u8>>>(3)?,
            ))
        })
        .await
        .unwrap();
    assert_eq!(
        rows,
        [
            (1, None, None, None),
            (2, Some("two".into()), Some(2.5), Some(vec![0, 255])),
            (3, Some("three".into()), None, Some(vec![])),
        ]
    );
}

async fn one_statement_takes_values_of_different_types(database: Arc<Database>) {
    let (store, mut writer) = ready(&database).await;
    let mut transaction = Transaction::default();
    let sql = "INSERT INTO votes (id, score) VALUES ($1, $2)";
    let values: [Param; 5] = [
        Param::Null,
        1_i64.into(),
        1.5.into(),
        2_i64.into(),
        Param::Null,
    ];
    for (id, value) in (1_i64..).zip(values) {
        transaction.execute(sql, vec![id.into(), value]);
    }
    writer.begin().await.unwrap();
    run(&mut writer, &transaction).await.unwrap();
    writer.commit().await.unwrap();
    let sql = "SELECT score FROM votes ORDER BY id";
    let scores: Vec<Option<f64>> = store.fetch(sql, vec![], |row| row.get(0)).await.unwrap();
    assert_eq!(scores, [None, Some(1.0), Some(1.5), Some(2.0), None]);
}

#[tokio::test]
async fn a_full_disk_is_no_failure_of_a_handler() {
    super::harness::sqlite(|database| async move {
        let (store, mut writer) = ready(&database).await;
        let mut transaction = Transaction::default();
        transaction.execute("PRAGMA max_page_count = 1", ());
        transaction.execute(
            "INSERT INTO votes (id, name) VALUES ($1, $2)",
            (1_i64, "x".repeat(1_000_000)),
        );
        writer.begin().await.unwrap();
        let error = writer.run(&transaction, LONG).await.unwrap_err();
        let text = error.with_causes().to_string();
        assert!(text.contains("full"), "{text}");
        writer.rollback().await.unwrap();
        assert_eq!(names(&store).await, Vec::<String>::new());
    })
    .await;
}
