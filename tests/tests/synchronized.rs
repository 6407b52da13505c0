//! Synchronized groups of real peers that compete, fail, and are called off.

use serde_json::{Value, json};

use crate::harness::{Fake, Peer, Store, eventually, message, text, until};

const SCARCE: [(&str, &str); 2] = [
    ("FRESTQ_QUEUES__STAGE__CONCURRENCY", "2"),
    ("FRESTQ_RESERVATION_TIMEOUT", "2s"),
];

async fn peers(store: &Store) -> [Peer; 3] {
    [
        Peer::start_with(store, "a", &SCARCE).await,
        Peer::start_with(store, "b", &SCARCE).await,
        Peer::start_with(store, "c", &SCARCE).await,
    ]
}

fn play(to: &Peer, data: &Value) -> Value {
    json!({"task": {"to": to.url, "queue": "stage", "action": "play", "data": data}})
}

/// How many reservations are held, by the files that handlers leave.
fn held(peer: &Peer) -> usize {
    peer.files("held-")
}

on_each_store! {
    async fn ten_groups_that_compete_for_the_slots_of_three_peers_all_finish(store) {
        let peers = peers(&store).await;
        let mut groups = Vec::new();
        for number in 0..10 {
            let director = &peers[number % 3];
            // Each wants all slots of one peer, and one of another.
            let (one, other) = (&peers[number % 3], &peers[(number + 1) % 3]);
            let data = json!({});
            let plan = json!({"synchronized": [play(one, &data), play(one, &data), play(other, &data)]});
            groups.push((director, director.plant(&plan).await));
        }
        for (director, id) in &groups {
            director.reaches(id, "finished").await;
            // Each is told the round by `pre_execute`: so none has started before it, or in another round.
            let tasks = director.tasks_of("play");
            let family = tasks.iter().filter(|task| task["parent_id"] == *id);
            let rounds: Vec<_> = family.map(|task| &task["output_data"]).collect();
            assert!(rounds.len() == 3 && rounds[0].as_i64() >= Some(1), "{rounds:?}");
            assert!(rounds.iter().all(|round| *round == rounds[0]), "{rounds:?}");
        }
        let played = "SELECT count(*) FROM tasks WHERE action = 'play' AND status = 10 AND role <> 0";
        let more = "SELECT count(*) FROM tasks WHERE action = 'play' AND attempt <> 1 AND role <> 0";
        let (mut all, mut again) = (0, 0);
        for peer in &peers {
            all += peer.database.number(played).await;
            again += peer.database.number(more).await;
            assert_eq!(held(peer), 0);
        }
        assert_eq!((all, again), (30, 0));
    }

    async fn a_group_tries_again_until_everybody_can_reserve(store) {
        let [a, b, _] = peers(&store).await;
        let plan = json!({"synchronized": [play(&a, &json!({})), play(&b, &json!({"refuses": 2}))]});
        let id = a.plant(&plan).await;
        a.reaches(&id, "finished").await;
        // What was ready from the beginning waited for the third round too.
        let rounds: Vec<_> = a.tasks_of("play").iter().map(|task| task["output_data"].clone()).collect();
        assert_eq!(rounds, [json!(3), json!(3)]);
        assert_eq!((held(&a), held(&b)), (0, 0));
    }

    async fn local_remote_and_original_performers_start_together(store) {
        let [a, b, _] = peers(&store).await;
        let original = Fake::new().await;
        let theirs = json!({"task": {"to": original.url, "queue": "stage", "action": "play", "data": {}}});
        let plan = json!({"synchronized": [play(&a, &json!({})), theirs, play(&b, &json!({}))]});
        let id = a.plant(&plan).await;
        let heard = async |action: &str| {
            eventually("the original one hears of it", async || {
                let messages = original.seen().into_iter().map(|seen| seen.json());
                messages.into_iter().find(|message| message["action"] == action)
            })
            .await
        };
        let asked = heard("frestq.synchronize_task").await;
        let say = |action: &str, data: Value| {
            let mut said = message(&original.url, action, data);
            said["task_id"] = asked["task_id"].clone();
            said
        };
        until("the others have reserved", async || held(&a) == 1 && held(&b) == 1).await;
        assert_eq!(a.task(&id).await["status"], "syncing");
        let confirm = json!({"reservation_data": "a place of its own", "reservation_expiration_seconds": 60});
        let confirm = say("frestq.confirm_task_reservation", confirm);
        assert_eq!(a.deliver("internal.frestq", &confirm).await.status, 200);
        let told = heard("frestq.execute_synchronized").await;
        assert_eq!(told["task_id"], asked["task_id"]);
        let done = say("frestq.update_task", json!({"status": "finished", "output_data": 1}));
        assert_eq!(a.deliver("internal.frestq", &done).await.status, 200);
        a.reaches(&id, "finished").await;
        assert_eq!((held(&a), held(&b)), (0, 0));
        let outputs: Vec<_> = a.tasks_of("play").iter().map(|task| task["output_data"].clone()).collect();
        assert_eq!(outputs.len(), 3);
        assert!(outputs.contains(&json!(1)), "{outputs:?}");
    }

    async fn what_a_reservation_adds_is_dropped_and_the_log_says_so(store) {
        let [a, ..] = peers(&store).await;
        let plan = json!({"synchronized": [play(&a, &json!({"adds": true}))]});
        let id = a.plant(&plan).await;
        a.reaches(&id, "finished").await;
        assert_eq!((a.tasks().len(), held(&a)), (2, 0));
        assert!(a.log().contains("only execute may add subtasks"));
    }

    async fn a_group_whose_director_fails_ends_and_gives_everything_back(store) {
        let [a, b, _] = peers(&store).await;
        let plan = json!({"synchronized": [play(&a, &json!({"fails": "pre_execute"})), play(&b, &json!({}))]});
        let id = a.plant(&plan).await;
        let error = a.error(&id).await;
        assert_eq!(error["message"], "the conductor is ill");
        until("all is given back", async || held(&a) + held(&b) == 0).await;
        let open = "SELECT count(*) FROM tasks WHERE status < 10 OR moment <> 0";
        for peer in [&a, &b] {
            until("all has ended", async || peer.database.number(open).await == 0).await;
        }
        // The slots are free again.
        let plan = json!({"synchronized": [play(&a, &json!({})), play(&a, &json!({})), play(&b, &json!({}))]});
        let id = a.plant(&plan).await;
        a.reaches(&id, "finished").await;
    }

    async fn a_group_that_is_called_off_gives_everything_back_on_every_peer(store) {
        let [a, b, _] = peers(&store).await;
        // A never reserves, so B holds what it has until the round is over.
        let never = json!({"refuses": 1_000_000});
        let plan = json!({"synchronized": [play(&b, &json!({})), play(&b, &json!({})), play(&a, &never)]});
        let id = a.plant(&plan).await;
        until("some is held", async || held(&b) > 0).await;
        a.cli(&["--cancel", &id]);
        a.reaches(&id, "cancelled").await;
        let open = "SELECT count(*) FROM tasks WHERE status < 10 OR moment <> 0";
        for peer in [&a, &b] {
            until("all has ended", async || peer.database.number(open).await == 0).await;
            until("all is given back", async || held(peer) == 0).await;
        }
        assert!(a.tasks_of("play").iter().all(|task| text(task, "status") == "cancelled"));
    }
}
