//! The examples, each run to its end by real processes, and one of them through crashes.

use serde_json::{Value, json};

use crate::harness::{
    ERRORHANDLING, EXTERNAL_A, EXTERNAL_B, Peer, SYNCHRONIZED_A, SYNCHRONIZED_B, Store, TASKTREE_A,
    TASKTREE_B, eventually, text, until,
};

/// Two running peers that know each other.
async fn pair(store: &Store, a: &'static str, b: &'static str) -> (Peer, Peer) {
    let mut a = Peer::example(store, "a", a).await;
    let mut b = Peer::example(store, "b", b).await;
    a.set("PEER_B", &b.url);
    b.set("PEER_A", &a.url);
    a.run().await;
    b.run().await;
    (a, b)
}

/// The outputs of these tasks, sorted.
fn outputs(tasks: &[Value]) -> Vec<Value> {
    let mut outputs: Vec<_> = tasks
        .iter()
        .map(|task| task["output_data"].clone())
        .collect();
    outputs.sort_by_key(Value::to_string);
    outputs
}

on_each_store! {
    async fn a_tree_over_two_peers_ends_with_all_goodbyes_together(store) {
        let (a, b) = pair(&store, TASKTREE_A, TASKTREE_B).await;
        let id = a.say_hello("ada").await;
        assert_eq!(a.output(&id).await, "hello ada!");
        assert_eq!(b.output(&id).await, "hello ada!");

        let goodbyes = ["goodbye adaada!", "goodbye adaadaada!"];
        assert_eq!(outputs(&b.tasks_of("testing.goodbye_cruel_world")), goodbyes);
        let all = b.task_of("testing.all_goodbyes_together");
        assert_eq!((&all["output_data"], &all["parent_id"]), (&json!(goodbyes), &json!(id)));
        assert_eq!(a.task_of("testing.goodbye_cruel_world")["output_data"], goodbyes[1]);
        // The root, the group, two goodbyes, and all of them together.
        let tasks = b.tasks();
        assert_eq!(tasks.len(), 5);
        assert!(tasks.iter().all(|task| task["status"] == "finished"), "{tasks:?}");
    }

    async fn synchronized_groups_that_compete_for_slots_end_every_time(store) {
        const RUNS: usize = 50;
        let (a, b) = pair(&store, SYNCHRONIZED_A, SYNCHRONIZED_B).await;
        for _ in 0..RUNS {
            let id = a.say_hello("ada").await;
            let goodbyes: Vec<String> = serde_json::from_value(a.output(&id).await).unwrap();
            assert_eq!(goodbyes.len(), 3, "{goodbyes:?}");
            let said = |by: &Peer, ports: std::ops::RangeInclusive<u16>| {
                let server = by.url.split('/').nth(2).unwrap();
                let says = |goodbye: &&String| ports.clone().any(|port| {
                    **goodbye == format!("goodbye adaada from port {port} in server {server}!")
                });
                goodbyes.iter().filter(says).count()
            };
            assert_eq!((said(&b, 6000..=6002), said(&a, 6010..=6019)), (2, 1), "{goodbyes:?}");
        }
        let open = "SELECT count(*) FROM tasks WHERE status < 10";
        assert_eq!((a.database.number(open).await, b.database.number(open).await), (0, 0));
    }

    async fn a_tree_ends_right_though_its_peer_is_killed_in_the_middle(store) {
        const TREES: usize = 12;
        let (a, mut b) = pair(&store, TASKTREE_A, TASKTREE_B).await;
        let ask = async {
            let mut roots = Vec::new();
            for number in 0..TREES {
                let name = format!("ada{number}");
                roots.push((a.say_hello(&name).await, name));
            }
            roots
        };
        let crash = async {
            let mut cut_off = 0;
            // Early, while trees grow, and while they end.
            for least in [1, 2 * TREES, 4 * TREES] {
                let least = i64::try_from(least).unwrap();
                until("the trees grow", async || {
                    b.database.number("SELECT count(*) FROM tasks").await >= least
                })
                .await;
                b.kill();
                let open = "SELECT count(*) FROM tasks WHERE status < 10";
                cut_off += b.database.number(open).await;
                b.run().await;
            }
            assert!(cut_off > 0, "B never was in the middle of anything");
        };
        let (roots, ()) = tokio::join!(ask, crash);
        let mut expected = Vec::new();
        for (id, name) in &roots {
            assert_eq!(a.output(id).await, format!("hello {name}!"));
            let goodbye = |times| format!("goodbye {}!", name.repeat(times));
            expected.push(json!([goodbye(2), goodbye(3)]));
        }
        expected.sort_by_key(Value::to_string);
        assert_eq!(outputs(&b.tasks_of("testing.all_goodbyes_together")), expected);
        for (peer, tasks) in [(&a, 2 * TREES), (&b, 5 * TREES)] {
            let tasks = i64::try_from(tasks).unwrap();
            let finished = "SELECT count(*) FROM tasks WHERE status = 10";
            assert_eq!(peer.database.number(finished).await, tasks);
            assert_eq!(peer.database.number("SELECT count(*) FROM tasks").await, tasks);
        }
    }

    async fn synchronized_groups_end_right_though_their_director_is_killed_in_the_middle(store) {
        const TREES: usize = 6;
        const ALL: i64 = 11 * 6;
        let mut a = Peer::example(&store, "a", SYNCHRONIZED_A).await;
        let mut b = Peer::example(&store, "b", SYNCHRONIZED_B).await;
        for peer in [&mut a, &mut b] {
            // Rounds that a crash has spoilt are over soon.
            peer.set("FRESTQ_RESERVATION_TIMEOUT", "4s");
        }
        a.set("PEER_B", &b.url);
        b.set("PEER_A", &a.url);
        a.run().await;
        b.run().await;
        let ask = async {
            let mut roots = Vec::new();
            for number in 0..TREES {
                roots.push(a.say_hello(&format!("ada{number}")).await);
            }
            roots
        };
        let crash = async {
            let mut cut_off = 0;
            for (least, which) in [(1, "status >= 0"), (1, "status = 3"), (2, "status = 10"), (8, "status = 10")] {
                let count = format!("SELECT count(*) FROM tasks WHERE {which}");
                let open = "SELECT count(*) FROM tasks WHERE status < 10";
                let all_ended = "SELECT count(*) FROM tasks WHERE status >= 10";
                until("the trees grow", async || {
                    b.database.number(&count).await >= least || b.database.number(all_ended).await == ALL
                })
                .await;
                b.kill();
                cut_off += b.database.number(open).await;
                b.run().await;
            }
            assert!(cut_off > 0, "B never was in the middle of anything");
        };
        let (roots, ()) = tokio::join!(ask, crash);
        for id in &roots {
            let goodbyes: Vec<String> = serde_json::from_value(a.output(id).await).unwrap();
            assert_eq!(goodbyes.len(), 3, "{goodbyes:?}");
        }
        let finished = "SELECT count(*) FROM tasks WHERE status = 10";
        let all = "SELECT count(*) FROM tasks";
        for (peer, tasks) in [(&a, 3 * TREES), (&b, 11 * TREES)] {
            let tasks = i64::try_from(tasks).unwrap();
            until("all has ended", async || peer.database.number(finished).await == tasks).await;
            assert_eq!(peer.database.number(all).await, tasks);
        }
    }

    async fn an_approval_outlives_the_death_of_both_peers(store) {
        let (mut a, mut b) = pair(&store, EXTERNAL_A, EXTERNAL_B).await;
        let id = a.say_hello("ada").await;
        let external = |b: &Peer| b.tasks().into_iter().find(|task| task["task_type"] == "external");
        let waiting = eventually("B waits for a person", async || external(&b)).await;
        a.kill();
        b.kill();
        b.run().await;
        assert_eq!(b.press(&format!("/approve/{}", text(&waiting, "id"))).await.status, 200);
        b.kill();
        a.run().await;
        b.run().await;
        assert_eq!(a.output(&id).await, Value::Null);
    }

    async fn errors_go_up_though_their_peer_is_killed_in_the_middle(store) {
        let mut peer = Peer::example(&store, "a", ERRORHANDLING).await;
        peer.run().await;
        let mut roots = Vec::new();
        for run in 0..8 {
            roots.push(peer.say_hello(&format!("ada{run}")).await);
            peer.kill();
            peer.run().await;
        }
        for id in &roots {
            assert_eq!(peer.error(id).await["error"], "no_hello");
        }
        let never = "SELECT count(*) FROM tasks WHERE action = 'never_land' AND attempt > 0";
        assert_eq!(peer.database.number(never).await, 0);
    }

    async fn a_task_waits_for_its_approval(store) {
        let (a, b) = pair(&store, EXTERNAL_A, EXTERNAL_B).await;
        let id = a.say_hello("ada").await;
        a.reaches(&id, "executing").await;
        let waiting = eventually("B waits for a person", async || {
            b.tasks().into_iter().find(|task| task["task_type"] == "external")
        })
        .await;
        assert_eq!(waiting["label"], "approve_hello");
        assert_eq!(waiting["input_data"], json!({"username": "ada"}));
        assert_eq!(waiting["status"], "executing");

        let approval = text(&waiting, "id");
        let approve = format!("/approve/{approval}");
        // It is not A's to approve, and the task around it is no external one.
        assert_eq!(a.press(&approve).await.status, 404);
        assert_eq!(b.press(&format!("/approve/{id}")).await.status, 400);
        assert_eq!(a.task(&id).await["status"], "executing");

        assert_eq!(b.press(&approve).await.status, 200);
        assert_eq!(a.output(&id).await, Value::Null);
        assert_eq!(b.output(approval).await, json!({"yeah": "whatever"}));
        assert_eq!(b.output(&id).await, Value::Null);
        let again = b.press(&approve).await;
        assert_eq!(again.status, 400);
        assert!(again.body.contains("has ended before"), "{}", again.body);
    }

    async fn a_failure_is_recovered_and_the_next_one_ends_the_whole(store) {
        let mut peer = Peer::example(&store, "errors", ERRORHANDLING).await;
        peer.run().await;
        let id = peer.say_hello("ada").await;
        let error = json!({"error": "no_hello", "message": "no hello at all", "data": {"hello": "world"}});
        assert_eq!(peer.error(&id).await, error);

        let recovered = peer.task_of("hello_recoverable_fail");
        assert_eq!(recovered["status"], "finished");
        assert_eq!(recovered["input_data"], json!({"hello": "world"}));
        assert_eq!(recovered["output_data"], "recovered: no hello world today");
        let failed = peer.task_of("hello_fail");
        assert_eq!((&failed["status"], &failed["output_data"]), (&json!("error"), &error));
        let never = peer.task_of("never_land");
        assert_eq!((&never["status"], &never["attempt"]), (&json!("cancelled"), &json!(0)));
    }
}
