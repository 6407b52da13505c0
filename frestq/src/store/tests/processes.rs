//! Processes: who is alive, who owns what, who wins.

use std::sync::Arc;

use super::harness::{
    Database, accept, at, change, claim, create, inbox_row, json, load, new_task, peer,
};
use crate::{
    model::{NodeId, Status, TaskState},
    store::Store,
};

mod both {
    use super::*;

    on_both!(
        a_task_of_a_living_process_is_no_orphan,
        a_process_that_left_leaves_orphans,
        a_new_process_of_the_same_name_makes_orphans_at_once,
        one_process_alone_delivers_everywhere,
    );

    async fn a_task_of_a_living_process_is_no_orphan(database: Arc<Database>) {
        let (store, node) = with_claimed_task(&database, "one").await;
        assert_eq!(store.orphans(10).await.unwrap(), []);
        assert!(store.heartbeat(node).await.unwrap());
    }

    async fn a_process_that_left_leaves_orphans(database: Arc<Database>) {
        let (store, node) = with_claimed_task(&database, "one").await;
        store.leave(node).await.unwrap();
        let orphan = ("a".into(), node, "work".into(), "do".into());
        assert_eq!(store.orphans(10).await.unwrap(), [orphan]);
        assert_eq!(store.orphans(0).await.unwrap(), []);
        let mut writer = store.writer().await.unwrap();
        let state = TaskState {
            status: Status::Finished,
            owner: None,
            ..load(&mut writer, "a").await.unwrap()
        };
        change(&mut writer, &state, Some(&json("1"))).await;
        assert_eq!(store.orphans(10).await.unwrap(), []);
    }

    async fn a_new_process_of_the_same_name_makes_orphans_at_once(database: Arc<Database>) {
        let (store, old) = with_claimed_task(&database, "one").await;
        let new = store.join("one", at(1)).await.unwrap();
        assert_ne!(new, old);
        assert_eq!(store.orphans(10).await.unwrap().len(), 1);
        assert!(store.heartbeat(new).await.unwrap());
    }

    async fn one_process_alone_delivers_everywhere(database: Arc<Database>) {
        let store = database.store().await;
        let node = store.join("one", at(0)).await.unwrap();
        for name in ["b", "c", "b"] {
            let peer = peer(&store, name).await;
            assert!(store.claim_delivery(peer, node).await.unwrap());
        }
    }
}

async fn with_claimed_task(database: &Database, name: &str) -> (Store, NodeId) {
    let store = database.store().await;
    let node = store.join(name, at(0)).await.unwrap();
    let mut writer = store.writer().await.unwrap();
    create(&mut writer, &[new_task("a")]).await;
    assert_eq!(claim(&mut writer, node, 5, at(0)).await.len(), 1);
    (store, node)
}

mod several {
    use super::*;
    use crate::{
        model::error::Error,
        store::{OpenMode, Writes, is_transient},
    };

    on_postgres!(
        a_claim_of_two_processes_never_gives_the_same_task,
        a_loaded_task_is_locked_until_the_transaction_ends,
        a_message_that_two_processes_take_is_taken_once,
        processes_that_want_each_others_tasks_are_told_to_try_again,
        a_process_whose_lease_ran_out_learns_of_its_death,
        a_process_given_up_for_dead_comes_back,
        the_number_of_a_process_is_never_given_again,
        one_living_process_delivers_to_a_peer,
        a_dead_process_delivers_to_nobody,
        a_failed_transaction_is_never_committed,
        a_writer_outlives_its_connection,
        a_commit_without_an_answer_is_looked_up,
        the_disk_is_waited_for,
        application_tables_are_safe_to_make_at_the_same_time,
    );

    async fn a_claim_of_two_processes_never_gives_the_same_task(database: Arc<Database>) {
        let store = database.store().await;
        let tasks: Vec<_> = (0..300).map(|n| new_task(&format!("t{n}"))).collect();
        create(&mut store.writer().await.unwrap(), &tasks).await;
        let claimers: Vec<_> = (1..=3)
            .map(|node| {
                let database = database.clone();
                tokio::spawn(async move {
                    let store = database.open(OpenMode::Serve).await;
                    let mut writer = store.writer().await.unwrap();
                    let mut mine = Vec::new();
                    loop {
                        let claimed = claim(&mut writer, NodeId(node), 7, at(0)).await;
                        if claimed.is_empty() {
                            return mine;
                        }
                        mine.extend(claimed.into_iter().map(|state| state.id.to_string()));
                    }
                })
            })
            .collect();
        let mut all = Vec::new();
        for claimer in claimers {
            all.extend(claimer.await.unwrap());
        }
        all.sort();
        all.dedup();
        let waiting = claim(&mut store.writer().await.unwrap(), NodeId(9), 999, at(0)).await;
        // Each was claimed once: a second claim would have counted a second attempt.
        assert_eq!(all.len() + waiting.len(), 300);
        for task in store.tasks(&Default::default(), 999).await.unwrap() {
            assert_eq!((task.status, task.attempt), (Status::Executing, 1));
        }
    }

    async fn a_loaded_task_is_locked_until_the_transaction_ends(database: Arc<Database>) {
        let store = database.store().await;
        create(&mut store.writer().await.unwrap(), &[new_task("a")]).await;
        let counters: Vec<_> = (0..3)
            .map(|_| {
                let database = database.clone();
                tokio::spawn(async move {
                    let store = database.open(OpenMode::Serve).await;
                    let mut writer = store.writer().await.unwrap();
                    for _ in 0..20 {
                        writer.begin().await.unwrap();
                        let mut state = writer
                            .load(&crate::store::Lookup::new(&[&"a".into()], &[]))
                            .await
                            .unwrap()
                            .tasks
                            .remove(0);
                        state.attempt += 1;
                        let writes = Writes {
                            changed: vec![(&state, None)],
                            ..Writes::default()
                        };
                        writer.save(&writes).await.unwrap();
                        writer.commit().await.unwrap();
                    }
                })
            })
            .collect();
        for counter in counters {
            counter.await.unwrap();
        }
        let mut writer = store.writer().await.unwrap();
        assert_eq!(load(&mut writer, "a").await.unwrap().attempt, 60);
    }

    async fn a_message_that_two_processes_take_is_taken_once(database: Arc<Database>) {
        let store = database.store().await;
        let b = peer(&store, "b").await;
        let (mut one, mut two) = (store.writer().await.unwrap(), store.writer().await.unwrap());
        let row = [inbox_row(b, "m")];
        two.begin().await.unwrap();
        assert_eq!(
            two.load(&crate::store::Lookup::new(&[], &[&row[0].key]))
                .await
                .unwrap()
                .inbox,
            []
        );
        accept(&mut one, &row).await;
        let writes = Writes {
            accepted: &row,
            ..Writes::default()
        };
        let error = two.save(&writes).await.unwrap_err();
        assert!(is_transient(&error), "{error}");
        // From loading on again, the winner's row is there.
        two.rollback().await.unwrap();
        two.begin().await.unwrap();
        assert_eq!(
            two.load(&crate::store::Lookup::new(&[], &[&row[0].key]))
                .await
                .unwrap()
                .inbox
                .len(),
            1
        );
    }

    async fn processes_that_want_each_others_tasks_are_told_to_try_again(database: Arc<Database>) {
        let store = database.store().await;
        let (mut one, mut two) = (store.writer().await.unwrap(), store.writer().await.unwrap());
        create(&mut one, &[new_task("a"), new_task("b")]).await;
        let (a, b) = ("a".into(), "b".into());
        one.begin().await.unwrap();
        two.begin().await.unwrap();
        one.load(&crate::store::Lookup::new(&[&a], &[]))
            .await
            .unwrap();
        two.load(&crate::store::Lookup::new(&[&b], &[]))
            .await
            .unwrap();
        let (first, second) = ([&b], [&a]);
        let (first, second) = tokio::join!(
            async {
                let result = one.load(&crate::store::Lookup::new(&first, &[])).await;
                one.rollback().await.unwrap();
                result
            },
            async {
                let result = two.load(&crate::store::Lookup::new(&second, &[])).await;
                two.rollback().await.unwrap();
                result
            },
        );
        let errors: Vec<Error> = [first.err(), second.err()].into_iter().flatten().collect();
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(is_transient(&errors[0]), "{}", errors[0]);
    }

    /// Lets the lease of a process run out.
    async fn starve(store: &Store, node: NodeId) {
        let sql = format!("UPDATE nodes SET alive_until = 0 WHERE id = {}", node.0);
        store.run_schema(&[&sql]).await.unwrap();
    }

    async fn a_process_whose_lease_ran_out_learns_of_its_death(database: Arc<Database>) {
        let (store, node) = with_claimed_task(&database, "one").await;
        let other = store.join("two", at(0)).await.unwrap();
        // Late, but nobody has looked: alive again.
        starve(&store, node).await;
        assert!(store.heartbeat(node).await.unwrap());
        assert_eq!(store.orphans(10).await.unwrap(), []);
        // Too late.
        starve(&store, node).await;
        assert_eq!(store.orphans(10).await.unwrap().len(), 1);
        assert!(!store.heartbeat(node).await.unwrap());
        assert!(store.heartbeat(other).await.unwrap());
    }

    async fn a_process_given_up_for_dead_comes_back(database: Arc<Database>) {
        let (store, node) = with_claimed_task(&database, "one").await;
        let b = peer(&store, "b").await;
        starve(&store, node).await;
        assert_eq!(store.orphans(10).await.unwrap().len(), 1);
        assert!(!store.claim_delivery(b, node).await.unwrap());
        assert!(store.join_again(node, "one").await.unwrap());
        assert!(store.heartbeat(node).await.unwrap());
        assert_eq!(store.orphans(10).await.unwrap(), []);
        assert!(store.claim_delivery(b, node).await.unwrap());
        // Unless somebody has taken its place.
        starve(&store, node).await;
        store.join("one", at(0)).await.unwrap();
        assert!(!store.join_again(node, "one").await.unwrap());
        assert!(!store.heartbeat(node).await.unwrap());
    }

    async fn the_number_of_a_process_is_never_given_again(database: Arc<Database>) {
        let store = database.store().await;
        let first = store.join("one", at(0)).await.unwrap();
        let second = store.join("one", at(0)).await.unwrap();
        assert!(!store.heartbeat(first).await.unwrap());
        store.leave(second).await.unwrap();
        assert!(!store.heartbeat(second).await.unwrap());
        let third = store.join("one", at(0)).await.unwrap();
        assert!(first.0 < second.0 && second.0 < third.0);
    }

    async fn one_living_process_delivers_to_a_peer(database: Arc<Database>) {
        let store = database.store().await;
        let (b, c) = (peer(&store, "b").await, peer(&store, "c").await);
        let one = store.join("one", at(0)).await.unwrap();
        let two = store.join("two", at(0)).await.unwrap();
        assert!(store.claim_delivery(b, one).await.unwrap());
        assert!(store.claim_delivery(b, one).await.unwrap());
        assert!(!store.claim_delivery(b, two).await.unwrap());
        assert!(store.claim_delivery(c, two).await.unwrap());

        store.leave(one).await.unwrap();
        assert!(store.claim_delivery(b, two).await.unwrap());
        starve(&store, two).await;
        let three = store.join("three", at(0)).await.unwrap();
        assert!(store.claim_delivery(b, three).await.unwrap());
        assert!(!store.claim_delivery(b, two).await.unwrap());

        let rivals = (0..8).map(|n| store.join(["p", "q", "r", "s", "t", "u", "v", "w"][n], at(0)));
        let mut nodes = Vec::new();
        for rival in rivals {
            nodes.push(rival.await.unwrap());
        }
        let d = peer(&store, "d").await;
        let store = Arc::new(store);
        let claims: Vec<_> = nodes
            .into_iter()
            .map(|node| {
                let store = store.clone();
                tokio::spawn(async move { store.claim_delivery(d, node).await.unwrap() })
            })
            .collect();
        let mut winners = 0;
        for claim in claims {
            winners += usize::from(claim.await.unwrap());
        }
        assert_eq!(winners, 1);
    }

    async fn a_dead_process_delivers_to_nobody(database: Arc<Database>) {
        let store = database.store().await;
        let b = peer(&store, "b").await;
        let one = store.join("one", at(0)).await.unwrap();
        assert!(store.claim_delivery(b, one).await.unwrap());
        store.leave(one).await.unwrap();
        assert!(!store.claim_delivery(b, one).await.unwrap());
    }

    async fn a_failed_transaction_is_never_committed(database: Arc<Database>) {
        let store = database.store().await;
        let mut writer = store.writer().await.unwrap();
        let task = new_task("a");
        create(&mut writer, std::slice::from_ref(&task)).await;
        let writes = Writes {
            created: vec![(&task, &task.state, None)],
            ..Writes::default()
        };
        writer.begin().await.unwrap();
        writer.save(&writes).await.unwrap_err();
        // The server would say that all is well.
        writer.commit().await.unwrap_err();
        writer.rollback().await.unwrap();
        writer.commit().await.unwrap_err();
    }

    async fn a_writer_outlives_its_connection(database: Arc<Database>) {
        let store = database.store().await;
        let mut writer = store.writer().await.unwrap();
        let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                   WHERE datname = current_database() AND pid <> pg_backend_pid()";
        // Between two transactions nobody notices.
        store.run_schema(&[cut]).await.unwrap();
        create(&mut writer, &[new_task("a")]).await;
        // Within one, it is undone.
        writer.begin().await.unwrap();
        writer
            .load(&crate::store::Lookup::new(&[&"a".into()], &[]))
            .await
            .unwrap();
        store.run_schema(&[cut]).await.unwrap();
        let error = writer
            .load(&crate::store::Lookup::new(&[&"a".into()], &[]))
            .await
            .unwrap_err();
        assert!(!is_transient(&error), "{error}");
        writer.commit().await.unwrap_err();
        writer.rollback().await.unwrap();
        create(&mut writer, &[new_task("b")]).await;
        assert_eq!(store.tasks(&Default::default(), 5).await.unwrap().len(), 2);
    }

    /// What is cut off of the next exchange between a process and its server.
    #[derive(Clone, Copy, PartialEq)]
    enum Cut {
        Nothing,
        /// The server gets the request, and nobody its answer.
        Answer,
        Request,
    }

    async fn stand_between(url: &str) -> (String, Arc<std::sync::Mutex<Cut>>) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut url = url::Url::parse(url).unwrap();
        let server = (
            url.host_str().unwrap().to_owned(),
            url.port().unwrap_or(5432),
        );
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(listener.local_addr().unwrap().port()))
            .unwrap();
        let cut = Arc::new(std::sync::Mutex::new(Cut::Nothing));
        let shared = cut.clone();
        tokio::spawn(async move {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let mut server = tokio::net::TcpStream::connect(server.clone())
                    .await
                    .unwrap();
                let cut = shared.clone();
                tokio::spawn(async move {
                    let (mut up, mut down) = ([0; 8192], [0; 8192]);
                    loop {
                        tokio::select! {
                            n = client.read(&mut up) => match n {
                                Ok(n) if n > 0 && *cut.lock().unwrap() != Cut::Request => {
                                    server.write_all(&up[..n]).await.unwrap();
                                }
                                _ => break,
                            },
                            n = server.read(&mut down) => match n {
                                Ok(n) if n > 0 && *cut.lock().unwrap() != Cut::Answer => {
                                    client.write_all(&down[..n]).await.unwrap();
                                }
                                _ => break,
                            },
                        }
                    }
                    *cut.lock().unwrap() = Cut::Nothing;
                });
            }
        });
        (url.into(), cut)
    }

    async fn a_commit_without_an_answer_is_looked_up(database: Arc<Database>) {
        drop(database.store().await);
        let (url, cut) = stand_between(&database.url).await;
        let store = Store::open(&url, OpenMode::Serve).await.unwrap();
        let mut writer = store.writer().await.unwrap();
        // The first commit of a connection only prepares the statement.
        for (name, next) in [
            ("a", Cut::Nothing),
            ("b", Cut::Answer),
            ("c", Cut::Nothing),
            ("d", Cut::Request),
            ("e", Cut::Nothing),
        ] {
            let task = new_task(name);
            let writes = Writes {
                created: vec![(&task, &task.state, None)],
                ..Writes::default()
            };
            writer.begin().await.unwrap();
            writer.save(&writes).await.unwrap();
            *cut.lock().unwrap() = next;
            let committed = writer.commit().await.is_ok();
            assert_eq!(committed, next != Cut::Request, "{name}");
            writer.rollback().await.unwrap();
            assert_eq!(load(&mut writer, name).await.is_some(), committed);
        }
    }

    async fn the_disk_is_waited_for(database: Arc<Database>) {
        let store = database.store().await;
        let off = "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database()); END $$";
        store.run_schema(&[off]).await.unwrap();
        let store = database.open(OpenMode::Serve).await;
        let sql = "SELECT current_setting('synchronous_commit') || ' ' || current_setting('default_transaction_isolation')";
        let set: Vec<String> = store.fetch(sql, vec![], |row| row.get(0)).await.unwrap();
        assert_eq!(set, ["on read committed"]);
    }

    async fn application_tables_are_safe_to_make_at_the_same_time(database: Arc<Database>) {
        let store = Arc::new(database.store().await);
        let makers: Vec<_> = (0..4)
            .map(|_| {
                let store = store.clone();
                tokio::spawn(async move {
                    let sql = "CREATE TABLE IF NOT EXISTS votes (id BIGINT PRIMARY KEY)";
                    store.run_schema(&[sql]).await
                })
            })
            .collect();
        for maker in makers {
            maker.await.unwrap().unwrap();
        }
    }
}
