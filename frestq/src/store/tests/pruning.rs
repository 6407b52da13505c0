//! What goes for its age, and what stays.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use super::harness::{
    Database, accept, at, create, inbox_row, json, load, new_task, outbox_row, peer, send, settle,
};
use crate::{
    commit::queue::CommitQueue,
    config::Config,
    maintenance::pruning::Pruning,
    model::{NewTask, NodeId, OutboxRow, PeerId, Role, RunPhase, Status, TaskKind, TaskState},
    operator::commands,
    runtime::clock::Clock,
    store::{Filters, MESSAGE_FIELDS, OutboxState, Place, Pruned, Settled, Step, Store, Writer},
};
use crate::{peers::registry::PeerRegistry, runtime::notify::Notifier};

on_both!(
    what_has_wholly_ended_and_is_old_goes,
    nothing_is_left_of_a_task_that_another_peer_knows_but_that_it_was,
    messages_go_with_their_task_and_what_was_accepted_is_remembered,
    what_was_accepted_is_remembered_twice_as_long_as_a_message_is_tried,
    a_large_tree_that_was_half_removed_goes_the_next_time,
    what_a_late_message_keeps_of_a_tree_goes_after_it,
    an_age_before_all_dates_is_refused,
);

const DAY: Duration = Duration::from_secs(24 * 3600);

/// The day on which everything is pruned.
const TODAY: i64 = 100;

fn day(number: i64) -> Timestamp {
    at(number * 24 * 3600)
}

struct Peer {
    store: Arc<Store>,
    writer: Writer,
    commits: CommitQueue,
    other: PeerId,
    give_up_after: Duration,
}

impl Peer {
    async fn new(database: &Database) -> Self {
        let store = Arc::new(database.store().await);
        let config = Config::default();
        let clock = Clock::manual(day(TODAY));
        let own_url = "http://127.0.0.1:5000/api/queues".parse().unwrap();
        let membership =
            PeerRegistry::new(&store, Arc::default(), own_url, Arc::new(Notifier::new().0));
        let membership = membership.await.unwrap();
        let other = peer(&store, "b").await;
        Self {
            writer: store.writer().await.unwrap(),
            commits: commands::without_slots(&store, &config, &membership, &clock)
                .await
                .unwrap(),
            other,
            give_up_after: config.delivery.give_up_after,
            store,
        }
    }

    /// Prunes what is older than so many days.
    async fn prune(&self, days: u32) -> Pruned {
        let pruning = Pruning {
            store: &self.store,
            commits: &self.commits,
            give_up_after: self.give_up_after,
        };
        pruning
            .prune(DAY * days, day(TODAY), "operator")
            .await
            .unwrap()
    }

    /// What is left of a task.
    async fn left(&self, id: &str) -> &'static str {
        match self.store.task(&id.into()).await.unwrap() {
            None => "gone",
            Some(task) if task.pruned_date.is_some() => "tombstone",
            Some(_) => "kept",
        }
    }

    async fn left_of(&self, ids: &[&str]) -> String {
        let mut left = Vec::new();
        for id in ids {
            left.push(format!("{id} {}", self.left(id).await));
        }
        left.join(", ")
    }

    /// A task that ended on a day.
    fn ended(&self, id: &str, role: Role, on: i64) -> NewTask {
        let mut task = new_task(id);
        task.state.role = role;
        task.state.peer = match role {
            Role::Local => PeerId::SELF,
            _ => self.other,
        };
        (task.state.status, task.state.moment) = (Status::Finished, None);
        (task.state.modified_at, task.created_at) = (day(on), day(on));
        task
    }

    fn message(&self, id: &str, task: &str, on: i64) -> OutboxRow {
        let mut row = outbox_row(self.other, id);
        (row.task, row.created_at) = (task.into(), day(on));
        row
    }

    async fn deliver(&mut self, message: &str) {
        let filters = Filters::new(MESSAGE_FIELDS, &[format!("id={message}")]).unwrap();
        assert_eq!(self.store.messages(&filters, 9).await.unwrap().len(), 1);
        const SQL: &str = "SELECT seq FROM outbox WHERE message = $1";
        let found = self
            .store
            .fetch(SQL, vec![message.into()], |row| row.get(0));
        let settled = Settled {
            seq: found.await.unwrap()[0],
            state: OutboxState::Delivered,
            answer: 200,
            due_at: None,
            error: None,
        };
        settle(&mut self.writer, settled).await;
    }

    async fn messages(&self) -> String {
        let all = self.store.messages(&Filters::default(), 99).await.unwrap();
        let mut all: Vec<_> = all
            .into_iter()
            .map(|m| format!("{}={}", m.id, m.input_data.get()))
            .collect();
        all.sort();
        all.join(" ")
    }
}

fn below(mut task: NewTask, parent: &str, order: i64) -> NewTask {
    task.state.parent = Some(parent.into());
    task.state.order = order;
    task
}

async fn what_has_wholly_ended_and_is_old_goes(database: Arc<Database>) {
    use Role::{Local, Received, Sent};
    let mut peer = Peer::new(&database).await;
    let with = |mut task: NewTask, change: fn(&mut TaskState)| {
        change(&mut task.state);
        task
    };
    // A limit of 30 days is day 70.
    let cases: Vec<(Vec<NewTask>, &str)> = vec![
        (vec![peer.ended("a1", Local, 69)], "a1 gone"),
        (vec![peer.ended("a2", Local, 70)], "a2 kept"),
        (vec![peer.ended("a3", Sent, 1)], "a3 tombstone"),
        (vec![peer.ended("a4", Received, 1)], "a4 tombstone"),
        (
            vec![with(peer.ended("b1", Local, 1), |s| {
                s.status = Status::Executing
            })],
            "b1 kept",
        ),
        (
            vec![with(peer.ended("b2", Sent, 1), |s| {
                s.status = Status::Cancelled
            })],
            "b2 tombstone",
        ),
        // It gives back what it has reserved.
        (
            vec![with(peer.ended("b3", Received, 1), |s| {
                s.moment = Some(RunPhase::CancelReservation);
            })],
            "b3 kept",
        ),
        (
            vec![with(peer.ended("b4", Local, 1), |s| {
                s.owner = Some(NodeId(7))
            })],
            "b4 kept",
        ),
        // Its id is our own.
        (
            vec![with(peer.ended("b5", Received, 1), |s| {
                s.kind = TaskKind::Message
            })],
            "b5 gone",
        ),
        (
            vec![
                peer.ended("c", Received, 1),
                below(peer.ended("c1", Local, 1), "c", 0),
                below(peer.ended("c2", Sent, 1), "c", 1),
                below(peer.ended("c3", Local, 1), "c1", 0),
            ],
            "c tombstone, c1 gone, c2 tombstone, c3 gone",
        ),
        (
            vec![
                peer.ended("d", Local, 1),
                below(peer.ended("d1", Local, 1), "d", 0),
                below(peer.ended("d2", Sent, 80), "d1", 0),
            ],
            "d kept, d1 kept, d2 kept",
        ),
        (
            vec![
                peer.ended("e", Local, 1),
                below(
                    with(peer.ended("e1", Sent, 1), |s| s.status = Status::Sent),
                    "e",
                    0,
                ),
            ],
            "e kept, e1 kept",
        ),
        (
            vec![
                peer.ended("f", Sent, 1),
                below(peer.ended("f1", Sent, 1), "f", 0),
            ],
            "f kept, f1 kept",
        ),
        (vec![peer.ended("g", Sent, 1)], "g tombstone"),
    ];
    let mut writer = peer.store.writer().await.unwrap();
    for (tree, _) in &cases {
        create(&mut writer, tree).await;
    }
    // One on its way, and one that is not any more.
    let pending = [peer.message("mf", "f1", 1), peer.message("mg", "g", 1)];
    send(&mut writer, &pending).await;
    peer.deliver("mg").await;
    let pruned = peer.prune(30).await;
    for (tree, expected) in &cases {
        let ids: Vec<_> = tree.iter().map(|task| task.state.id.as_str()).collect();
        assert_eq!(peer.left_of(&ids).await, *expected);
    }
    assert_eq!(
        (pruned.removed, pruned.tombstones, pruned.messages),
        (4, 6, 1)
    );
    // What is left stays as it is.
    assert!(peer.prune(30).await.is_nothing());
}

async fn nothing_is_left_of_a_task_that_another_peer_knows_but_that_it_was(
    database: Arc<Database>,
) {
    let mut peer = Peer::new(&database).await;
    let mut task = peer.ended("t", Role::Received, 1);
    task.input = json(r#""secret""#);
    (task.label, task.info) = (Some("secret".into()), Some("secret".into()));
    task.unique_key = Some("secret".into());
    let secret = json(r#""secret""#);
    let changed = json(r#""secret too""#);
    let writes = crate::store::Writes {
        created: vec![(&task, &task.state, Some(&secret))],
        payloads: vec![crate::store::NewPayload {
            task: &task.state.id,
            input: Some(&changed),
            reservation: Some(&secret),
            progress: Some(&secret),
        }],
        ..Default::default()
    };
    super::harness::save(&mut peer.writer, &writes).await;
    let before = load(&mut peer.writer, "t").await.unwrap();
    peer.prune(30).await;
    let record = peer.store.task(&"t".into()).await.unwrap().unwrap();
    assert_eq!(record.pruned_date, Some(day(TODAY)));
    let written = serde_json::to_string(&record).unwrap();
    assert!(!written.contains("secret"), "{written}");
    // The engine sees what it saw before.
    let after = load(&mut peer.writer, "t").await.unwrap();
    assert_eq!(format!("{after:?}"), format!("{before:?}"));
    let listed = Filters::default().unless_pruned();
    assert_eq!(peer.store.tasks(&listed, 9).await.unwrap().len(), 0);
}

async fn messages_go_with_their_task_and_what_was_accepted_is_remembered(database: Arc<Database>) {
    let mut peer = Peer::new(&database).await;
    let tasks = [
        peer.ended("old", Role::Received, 1),
        peer.ended("open", Role::Received, 99),
        {
            let mut task = peer.ended("worth", Role::Received, 1);
            task.state.expires_at = Some(day(90));
            task
        },
    ];
    create(&mut peer.writer, &tasks).await;
    let sent = [
        peer.message("s1", "old", 1),
        peer.message("s2", "old", 99),
        peer.message("s3", "open", 1),
        peer.message("s4", "nobody", 1),
    ];
    send(&mut peer.writer, &sent).await;
    for message in ["s1", "s2", "s3", "s4"] {
        peer.deliver(message).await;
    }
    let received = |id: &str, task: &str, on: i64, internal: bool| {
        let mut row = inbox_row(peer.other, id);
        (row.task, row.received_at) = (Some(task.into()), day(on));
        if internal {
            row.queue = "internal.frestq".into();
        }
        row
    };
    let mut carrier = received("r1", "old", 80, false);
    carrier.data = None;
    let rows = [
        carrier,
        received("r2", "old", 80, true),
        received("r3", "old", 90, true),
        received("r4", "open", 80, true),
        // Raw ones, of which nothing else tells.
        received("r5", "whatever", 1, false),
        received("r6", "old", 80, false),
        received("r7", "old", 99, true),
        // Its sender may have tried until day 90.
        received("r8", "worth", 1, true),
    ];
    accept(&mut peer.writer, &rows).await;
    // A limit of two days is day 98, and what was accepted since day 86 is remembered.
    let pruned = peer.prune(2).await;
    let expected = r#"r3=null r4=1 r5=null r6=null r7=1 r8=null s2=1 s3=1"#;
    assert_eq!(peer.messages().await, expected);
    assert_eq!((pruned.messages, pruned.emptied), (4, 4));
    assert!(peer.prune(2).await.is_nothing());
}

async fn what_was_accepted_is_remembered_twice_as_long_as_a_message_is_tried(
    database: Arc<Database>,
) {
    let mut peer = Peer::new(&database).await;
    peer.give_up_after = DAY * 20;
    let task = peer.ended("t", Role::Received, 1);
    create(&mut peer.writer, &[task]).await;
    let rows = [59, 60, 61].map(|on| {
        let mut row = inbox_row(peer.other, &format!("r{on}"));
        (row.task, row.data, row.received_at) = (Some("t".into()), None, day(on));
        row
    });
    accept(&mut peer.writer, &rows).await;
    peer.prune(30).await;
    assert_eq!(peer.messages().await, "r60=null r61=null");
    peer.prune(0).await;
    assert_eq!(peer.messages().await, "r60=null r61=null");
    // An age that is longer is longer for these, too.
    peer.give_up_after = DAY;
    peer.prune(40).await;
    assert_eq!(peer.messages().await, "r60=null r61=null");
    peer.prune(39).await;
    assert_eq!(peer.messages().await, "r61=null");
}

async fn a_large_tree_that_was_half_removed_goes_the_next_time(database: Arc<Database>) {
    let mut peer = Peer::new(&database).await;
    let mut tree = vec![peer.ended("root", Role::Received, 1)];
    for n in 0..1300 {
        let parent = if n < 700 {
            "root".to_owned()
        } else {
            format!("t{}", n - 700)
        };
        tree.push(below(
            peer.ended(&format!("t{n}"), Role::Local, 1),
            &parent,
            n,
        ));
    }
    create(&mut peer.writer, &tree).await;
    let found = peer.store.ended_trees(day(70), Place::FIRST).await.unwrap();
    assert_eq!(found[0].tasks.len(), 1301);
    // As far as a process came that was killed.
    let step = Step::Tasks(found[0].tasks[..800].to_vec(), day(70));
    peer.commits.prune(step, None).await.unwrap();
    assert_eq!(
        peer.left_of(&["root", "t0", "t1299"]).await,
        "root kept, t0 kept, t1299 gone"
    );
    let pruned = peer.prune(30).await;
    assert_eq!((pruned.removed, pruned.tombstones), (500, 1));
    assert_eq!(
        peer.left_of(&["root", "t0"]).await,
        "root tombstone, t0 gone"
    );
}

/// A message about a task may come up between the look at its tree and the tree's end.
async fn what_a_late_message_keeps_of_a_tree_goes_after_it(database: Arc<Database>) {
    let mut peer = Peer::new(&database).await;
    let tree = [
        peer.ended("root", Role::Local, 1),
        below(peer.ended("child", Role::Sent, 1), "root", 0),
        below(peer.ended("last", Role::Local, 1), "root", 1),
    ];
    create(&mut peer.writer, &tree).await;
    let found = peer.store.ended_trees(day(70), Place::FIRST).await.unwrap();
    let late = peer.message("late", "child", 100);
    send(&mut peer.writer, &[late]).await;
    let step = Step::Tasks(found[0].tasks.clone(), day(70));
    let pruned = peer.commits.prune(step, None).await.unwrap();
    assert_eq!((pruned.removed, pruned.tombstones), (2, 0));
    assert!(peer.prune(30).await.is_nothing());
    peer.deliver("late").await;
    peer.prune(30).await;
    let left = peer.left_of(&["root", "child", "last"]).await;
    assert_eq!(left, "root gone, child tombstone, last gone");
}

async fn an_age_before_all_dates_is_refused(database: Arc<Database>) {
    let peer = Peer::new(&database).await;
    let pruning = Pruning {
        store: &peer.store,
        commits: &peer.commits,
        give_up_after: Duration::MAX,
    };
    let pruned = pruning
        .prune(DAY * 400_000 * 365, day(TODAY), "operator")
        .await;
    let error = pruned.unwrap_err().to_string();
    assert!(error.contains("before the first date"), "{error}");
}
