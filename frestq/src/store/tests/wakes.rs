//! What processes tell each other.

use std::{sync::Arc, time::Duration};

use tokio::{sync::mpsc::Receiver, time::timeout};

use super::harness::{
    Database, at, change, claim, create, json, load, new_task, outbox_row, peer, send,
};
use crate::{
    model::{NodeId, Role, Status, TaskState},
    store::{OpenMode, Wake, Writes},
};

mod both {
    use super::*;

    on_both!(only_where_others_can_be_is_there_somebody_to_listen_to);

    async fn only_where_others_can_be_is_there_somebody_to_listen_to(database: Arc<Database>) {
        let wakes = database.store().await.wakes().await.unwrap();
        assert_eq!(wakes.is_some(), database.url.starts_with("postgres"));
    }
}

mod several {
    use super::*;

    on_postgres!(
        a_process_hears_what_another_one_commits_and_nothing_of_its_own,
        a_task_that_has_ended_and_gives_something_back_wakes_its_queue,
        many_words_of_one_transaction_all_arrive,
        a_lost_connection_wakes_everything,
    );

    /// As many as are expected, however long they take, and whatever else comes within a moment.
    async fn heard(wakes: &mut Receiver<Wake>, expected: usize) -> Vec<Wake> {
        let mut heard = Vec::new();
        loop {
            let patience = if heard.len() < expected { 10_000 } else { 300 };
            match timeout(Duration::from_millis(patience), wakes.recv()).await {
                Ok(Some(wake)) => heard.push(wake),
                Ok(None) | Err(_) => return heard,
            }
        }
    }

    async fn a_process_hears_what_another_one_commits_and_nothing_of_its_own(
        database: Arc<Database>,
    ) {
        let here = database.store().await;
        let there = database.open(OpenMode::Serve).await;
        let mut wakes = here.wakes().await.unwrap().unwrap();
        let mut mine = here.writer().await.unwrap();
        let mut theirs = there.writer().await.unwrap();
        let b = peer(&here, "b").await;

        create(&mut mine, &[new_task("mine")]).await;
        assert_eq!(heard(&mut wakes, 0).await, []);

        // What is handed to somebody else waits for no slot here.
        let mut sent = new_task("sent");
        (sent.state.role, sent.state.peer) = (Role::Sent, b);
        let tasks = [new_task("x"), sent, new_task("y")];
        let writes = Writes {
            created: tasks.iter().map(|t| (t, &t.state, None)).collect(),
            ..Writes::default()
        };
        theirs.begin().await.unwrap();
        theirs.save(&writes).await.unwrap();
        assert_eq!(heard(&mut wakes, 0).await, [], "before the commit");
        theirs.rollback().await.unwrap();
        assert_eq!(heard(&mut wakes, 0).await, [], "after a rollback");
        create(&mut theirs, &tasks).await;
        assert_eq!(heard(&mut wakes, 1).await, [Wake::Queue("work".into())]);

        send(&mut theirs, &[outbox_row(b, "1"), outbox_row(b, "2")]).await;
        assert_eq!(heard(&mut wakes, 1).await, [Wake::Outbox(b)]);

        assert_eq!(claim(&mut theirs, NodeId(1), 1, at(0)).await.len(), 1);
        assert_eq!(heard(&mut wakes, 0).await, []);
        let ended = TaskState {
            status: Status::Error,
            ..load(&mut theirs, "x").await.unwrap()
        };
        change(&mut theirs, &ended, Some(&json("1"))).await;
        assert_eq!(heard(&mut wakes, 1).await, [Wake::Ended("x".into())]);
    }

    async fn a_task_that_has_ended_and_gives_something_back_wakes_its_queue(
        database: Arc<Database>,
    ) {
        let here = database.store().await;
        let there = database.open(OpenMode::Serve).await;
        let mut wakes = here.wakes().await.unwrap().unwrap();
        let mut theirs = there.writer().await.unwrap();
        let mut task = new_task("x");
        task.state.moment = None;
        create(&mut theirs, &[task]).await;
        assert_eq!(heard(&mut wakes, 0).await, []);
        let ended = TaskState {
            status: Status::Cancelled,
            moment: Some(crate::model::RunPhase::CancelReservation),
            ..load(&mut theirs, "x").await.unwrap()
        };
        change(&mut theirs, &ended, Some(&json("1"))).await;
        let both = [Wake::Queue("work".into()), Wake::Ended("x".into())];
        assert_eq!(heard(&mut wakes, 2).await, both);
    }

    async fn many_words_of_one_transaction_all_arrive(database: Arc<Database>) {
        let here = database.store().await;
        let there = database.open(OpenMode::Serve).await;
        let mut wakes = here.wakes().await.unwrap().unwrap();
        let tasks: Vec<_> = (0..3_000)
            .map(|n| {
                let mut task = new_task(&format!("{n:0128}"));
                task.state.status = Status::Finished;
                task
            })
            .collect();
        create(&mut there.writer().await.unwrap(), &tasks).await;
        let expected: Vec<_> = tasks
            .iter()
            .map(|task| Wake::Ended(task.state.id.clone()))
            .collect();
        assert_eq!(heard(&mut wakes, 3_000).await, expected);
    }

    async fn a_lost_connection_wakes_everything(database: Arc<Database>) {
        let here = database.store().await;
        let there = database.open(OpenMode::Serve).await;
        let mut wakes = here.wakes().await.unwrap().unwrap();
        let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                   WHERE datname = current_database() AND query LIKE 'LISTEN%'";
        for _ in 0..2 {
            there.run_schema(&[cut]).await.unwrap();
            let wake = timeout(Duration::from_secs(10), wakes.recv()).await;
            assert_eq!(wake, Ok(Some(Wake::Everything)));
        }
        create(&mut there.writer().await.unwrap(), &[new_task("a")]).await;
        assert_eq!(heard(&mut wakes, 1).await, [Wake::Queue("work".into())]);
    }
}
