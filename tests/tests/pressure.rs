//! Too much is answered with "later", never with a false yes.

use futures_util::future::join_all;
use serde_json::json;

use crate::harness::{Answer, Peer, message, text, until, url_of};

/// "Later", with a time.
#[track_caller]
fn is_later(answer: &Answer) {
    assert_eq!(answer.status, 503, "{}", answer.body);
    answer.refusal();
    let seconds: u64 = answer.headers["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..=60).contains(&seconds));
}

on_each_store! {
    async fn past_its_limit_a_peer_is_told_to_come_back_and_others_are_served(store) {
        let b = Peer::start_with(&store, "b", &[("FRESTQ_LIMITS__OPEN_TASKS_PER_PEER", "5")]).await;
        let wait = || message(&url_of(9), "wait", json!({"gate": "go"}));
        let taken: Vec<_> = (0..5).map(|_| wait()).collect();
        for task in &taken {
            assert_eq!(b.deliver("work", task).await.status, 200);
        }
        let before = b.database.counts().await;
        let flood: Vec<_> = (0..50).map(|_| wait()).collect();
        for answer in join_all(flood.iter().map(|task| b.deliver("work", task))).await {
            is_later(&answer);
        }
        assert_eq!(b.database.counts().await, before);

        // What others send is taken.
        let other = message(&url_of(10), "echo", json!(1));
        assert_eq!(b.deliver("work", &other).await.status, 200);
        b.output(text(&other, "task_id")).await;

        b.open("go");
        for task in &taken {
            b.output(text(task, "task_id")).await;
        }
        for task in &flood[..5] {
            assert_eq!(b.deliver("work", task).await.status, 200);
            b.output(text(task, "task_id")).await;
        }
    }

    /// However many come at the same moment: an answer tells the truth.
    async fn in_a_flood_exactly_what_was_accepted_is_stored(store) {
        let b =
            Peer::start_with(&store, "b", &[("FRESTQ_LIMITS__OPEN_TASKS_PER_PEER", "10")]).await;
        // Strangers count together until they are known.
        let first = message(&url_of(9), "echo", json!(1));
        b.deliver("work", &first).await;
        b.output(text(&first, "task_id")).await;
        let flood: Vec<_> = (0..300)
            .map(|_| message(&url_of(9), "wait", json!({"gate": "go"})))
            .collect();
        let answers = join_all(flood.iter().map(|task| b.deliver("work", task))).await;
        let (mut accepted, mut later) = (0, 0);
        for (task, answer) in flood.iter().zip(&answers) {
            let stored = b.find_task(text(task, "task_id")).await.is_some();
            assert_eq!(stored, answer.status == 200);
            if stored {
                accepted += 1;
            } else {
                is_later(answer);
                later += 1;
            }
        }
        assert_eq!((accepted, later), (10, 290));
        let counts = b.database.counts().await;
        assert_eq!(
            (counts["tasks"], counts["inbox"]),
            (1 + accepted, 1 + accepted)
        );
        b.open("go");
        until("all have ended", async || {
            b.database
                .number("SELECT count(*) FROM tasks WHERE status < 10")
                .await
                == 0
        })
        .await;
    }

    async fn a_peer_that_is_told_to_come_back_does_until_all_is_done(store) {
        let a = Peer::start(&store, "a").await;
        let b = Peer::start_with(&store, "b", &[("FRESTQ_LIMITS__OPEN_TASKS_PER_PEER", "5")]).await;
        let mut tasks = Vec::new();
        for n in 0..25 {
            tasks.push(a.send(&b.url, "work", "count", json!({"n": n})).await);
        }
        for (n, task) in tasks.iter().enumerate() {
            assert_eq!(a.output(task).await, n * 2);
        }
        assert_eq!(b.database.count("counted").await, 25);
    }

    /// The limit is a count of rows, so it holds after a restart.
    async fn the_limit_holds_after_a_crash(store) {
        let mut b = Peer::new(&store, "b").await;
        b.set("FRESTQ_LIMITS__OPEN_TASKS_PER_PEER", "3");
        b.createdb();
        b.run().await;
        let wait = || message(&url_of(9), "wait", json!({"gate": "go"}));
        let entries: Vec<_> = (0..5)
            .map(|_| json!({"queue": "work", "message": wait()}))
            .collect();
        let batch = message(&url_of(9), "frestq.batch", json!(entries));
        let answers = b.deliver("internal.frestq", &batch).await.json();
        let statuses: Vec<_> = answers
            .as_array()
            .unwrap()
            .iter()
            .map(|one| &one["status"])
            .collect();
        assert_eq!(statuses, [200, 200, 200, 503, 503]);
        b.kill();
        b.run().await;
        is_later(&b.deliver("work", &wait()).await);
        b.open("go");
        until("there is room again", async || {
            b.deliver("work", &wait()).await.status == 200
        })
        .await;
    }
}

/// A disk that is never as empty as it should be.
#[tokio::test(flavor = "multi_thread")]
async fn with_too_little_room_on_the_disk_nothing_is_taken_in() {
    let store = crate::harness::Store::Sqlite;
    let settings = [("FRESTQ_LIMITS__FREE_DISK", "9000000000000000000")];
    let b = Peer::start_with(&store, "b", &settings).await;
    let task = || message(&url_of(9), "echo", json!(1));
    until("the disk was looked at", async || {
        b.deliver("work", &task()).await.status == 503
    })
    .await;
    let before = b.database.counts().await;
    for _ in 0..5 {
        is_later(&b.deliver("work", &task()).await);
    }
    assert_eq!(b.database.counts().await, before);
}

/// A backup that holds the file, for example.
#[tokio::test(flavor = "multi_thread")]
async fn while_somebody_else_holds_the_database_nothing_is_acknowledged() {
    use sqlx::Connection as _;
    let b = Peer::start(&crate::harness::Store::Sqlite, "b").await;
    let known = message(&url_of(9), "count", json!({"n": 1}));
    assert_eq!(b.deliver("work", &known).await.status, 200);
    b.output(text(&known, "task_id")).await;

    let file = b.database.url().replace("sqlite:", "sqlite://");
    let mut holder = sqlx::SqliteConnection::connect(&file).await.unwrap();
    sqlx::query("BEGIN IMMEDIATE")
        .execute(&mut holder)
        .await
        .unwrap();
    let task = message(&url_of(9), "count", json!({"n": 2}));
    is_later(&b.deliver("work", &task).await);
    sqlx::query("ROLLBACK").execute(&mut holder).await.unwrap();

    assert_eq!(b.deliver("work", &task).await.status, 200);
    assert_eq!(b.output(text(&task, "task_id")).await, 4);
    assert_eq!(b.database.count("counted").await, 2);
}
