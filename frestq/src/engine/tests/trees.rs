//! The rules of trees, and a random walk through many of them.

use super::*;
use crate::model::OnFailure;

/// A tree in words, as rows.
pub(super) struct Tree {
    pub(super) rows: Vec<NewTask>,
}

impl Tree {
    pub(super) fn rooted(id: &str, kind: TaskKind) -> Self {
        Self {
            rows: vec![node(id, kind, None, 0)],
        }
    }

    /// Adds a child to a task that is there.
    pub(super) fn child(mut self, parent: &str, id: &str, kind: TaskKind) -> Self {
        let parent_id = TaskId::from(parent);
        let place = self
            .rows
            .iter()
            .position(|row| row.state.id == parent_id)
            .unwrap();
        let order = self.rows[place].state.open_children;
        self.rows[place].state.open_children += 1;
        self.rows.push(node(id, kind, Some(parent_id), order));
        self
    }

    pub(super) fn waiting_for_all(mut self) -> Self {
        self.rows[0].state.on_failure = OnFailure::WaitForAll;
        self
    }
}

pub(super) fn node(id: &str, kind: TaskKind, parent: Option<TaskId>, order: i64) -> NewTask {
    let (role, peer) = match kind {
        TaskKind::Simple => (Role::Sent, B),
        _ => (Role::Local, PeerId::SELF),
    };
    let mut task = new_task(id, role, peer);
    task.state.kind = kind;
    task.state.parent = parent;
    task.state.order = order;
    let is_group = matches!(kind, TaskKind::Parallel | TaskKind::External);
    if is_group || id.starts_with("group") {
        task.state.queue = "".into();
        task.state.action = "".into();
    }
    task
}

pub(super) const WORK: TaskKind = TaskKind::Sequential;

impl Peer {
    pub(super) fn plant(tree: Tree) -> Self {
        let mut peer = Peer::default();
        peer.tell(Event::Send(tree.rows));
        peer
    }

    pub(super) fn status(&self, id: &str) -> Status {
        self.task(id).status
    }

    pub(super) fn waits(&self, id: &str) -> bool {
        super::super::runs_now(self.task(id), NOW)
    }

    pub(super) fn work(&mut self, id: &str, outcome: Result<&str, &str>) {
        assert!(self.waits(id), "{id} does not wait for a slot");
        let epoch = self.claim(id);
        let outcome = match outcome {
            Ok(output) => Ok(json(&output)),
            Err(why) => Err(TaskError::new("failed", why)),
        };
        let answer = self.tell(completed(id, epoch, outcome, ActionOptions::DEFAULT));
        assert_eq!(answer, Answer::Accepted);
    }
}

#[test]
fn a_sequence_runs_one_after_the_other() {
    let tree = Tree::rooted("group", WORK)
        .child("group", "a", WORK)
        .child("group", "b", WORK);
    let mut peer = Peer::plant(tree);
    assert!(peer.waits("a") && !peer.waits("b"));
    peer.work("a", Ok("1"));
    assert!(peer.waits("b"));
    assert_eq!(peer.status("group"), Status::Executing);
    peer.work("b", Ok("2"));
    assert_eq!(peer.status("group"), Status::Finished);
}

#[test]
fn a_failure_in_a_sequence_ends_it_and_what_follows_never_runs() {
    let tree = Tree::rooted("group", WORK)
        .child("group", "a", WORK)
        .child("group", "b", WORK);
    let mut peer = Peer::plant(tree);
    peer.work("a", Err("no"));
    assert_eq!(peer.status("group"), Status::Error);
    assert_eq!(peer.output("group"), r#"{"error":"failed","message":"no"}"#);
    assert_eq!(peer.status("b"), Status::Cancelled);
}

#[test]
fn a_parallel_group_starts_all_and_ends_with_the_last() {
    let tree = Tree::rooted("par", TaskKind::Parallel)
        .child("par", "a", WORK)
        .child("par", "b", WORK);
    let mut peer = Peer::plant(tree);
    assert!(peer.waits("a") && peer.waits("b"));
    peer.work("b", Ok("2"));
    assert_eq!(peer.status("par"), Status::Executing);
    peer.work("a", Ok("1"));
    assert_eq!(peer.status("par"), Status::Finished);
}

#[test]
fn a_parallel_group_fails_fast_and_calls_off_the_rest() {
    let tree = Tree::rooted("par", TaskKind::Parallel)
        .child("par", "a", WORK)
        .child("par", "b", WORK)
        .child("par", "c", TaskKind::Simple);
    let mut peer = Peer::plant(tree);
    peer.tell(delivery("c", DeliveryOutcome::Delivered));
    let epoch = peer.claim("b");
    peer.work("a", Err("no"));
    assert_eq!(peer.status("par"), Status::Error);
    assert_eq!(peer.status("b"), Status::Cancelled);
    assert_eq!(peer.status("c"), Status::Cancelled);
    // The handler that runs is told, and its result is not wanted any more.
    assert_eq!(peer.changes.cancelled_runs, [TaskId::from("b")]);
    let late = completed("b", epoch, Ok(json(&1)), ActionOptions::DEFAULT);
    assert_eq!(peer.tell(late), Answer::Ignored);
    // The other peer is told too, if it understands.
    let last = peer.changes.outgoing.last().unwrap();
    assert_eq!(&*last.action, "frestq.cancel_task");
    assert!(last.needs_extensions);
}

#[test]
fn what_was_called_off_on_its_way_is_called_off_once_it_is_delivered() {
    let tree = Tree::rooted("par", TaskKind::Parallel)
        .child("par", "a", WORK)
        .child("par", "c", TaskKind::Simple);
    let mut peer = Peer::plant(tree);
    peer.work("a", Err("no"));
    assert_eq!(peer.status("c"), Status::Cancelled);
    peer.changes.outgoing.clear();
    peer.tell(delivery("c", DeliveryOutcome::Delivered));
    assert_eq!(peer.status("c"), Status::Cancelled);
    assert_eq!(peer.changes.outgoing.len(), 1);
    assert_eq!(&*peer.changes.outgoing[0].action, "frestq.cancel_task");
}

#[test]
fn a_parallel_group_that_waits_for_all_fails_with_the_last() {
    let tree = Tree::rooted("par", TaskKind::Parallel)
        .child("par", "a", WORK)
        .child("par", "b", WORK)
        .waiting_for_all();
    let mut peer = Peer::plant(tree);
    peer.work("a", Err("no"));
    assert_eq!(
        (peer.status("par"), peer.waits("b")),
        (Status::Executing, true)
    );
    peer.work("b", Ok("2"));
    assert_eq!(peer.status("par"), Status::Error);
    assert_eq!(
        (peer.status("b"), peer.output("b")),
        (Status::Finished, "\"2\"")
    );
}

/// There may be ten thousand of them.
#[test]
fn nobody_is_told_to_stop_what_was_never_sent() {
    let kind = TaskKind::Simple;
    let tree = Tree::rooted("group", WORK)
        .child("group", "a", kind)
        .child("group", "b", kind)
        .child("group", "c", kind);
    let mut peer = Peer::plant(tree);
    peer.tell(delivery("a", DeliveryOutcome::Delivered));
    peer.changes.outgoing.clear();
    let (id, why) = ("group".into(), "enough".into());
    peer.tell(Event::Cancel { id, why });
    let told = peer.changes.outgoing.iter();
    let told: Vec<_> = told.map(|message| message.task.as_str()).collect();
    assert_eq!(told, ["a"]);
}

/// Whether it arrived is not known until then.
#[test]
fn what_was_called_off_on_its_way_is_told_to_stop_once_it_may_have_arrived() {
    for verdict in [
        DeliveryOutcome::Delivered,
        DeliveryOutcome::GivenUp {
            why: "no answer".into(),
        },
    ] {
        let mut peer = sender_with_a_task();
        let (id, why) = ("t".into(), "enough".into());
        peer.tell(Event::Cancel { id, why });
        peer.changes.outgoing.clear();
        peer.tell(delivery("t", verdict));
        let [message] = &peer.changes.outgoing[..] else {
            panic!("not one message")
        };
        assert_eq!(&*message.action, "frestq.cancel_task");
    }
}

#[test]
fn a_group_that_waits_for_all_reports_every_failure() {
    let tree = Tree::rooted("par", TaskKind::Parallel)
        .waiting_for_all()
        .child("par", "a", WORK)
        .child("par", "b", WORK)
        .child("par", "c", WORK);
    let mut peer = Peer::plant(tree);
    peer.work("c", Err("too late"));
    peer.work("b", Ok("2"));
    peer.work("a", Err("too early"));
    let error: serde_json::Value = serde_json::from_str(peer.output("par")).unwrap();
    let failed = |id, message| {
        let error = serde_json::json!({"error": "failed", "message": message});
        serde_json::json!({"id": id, "queue": "q", "action": "act", "error": error})
    };
    assert_eq!(error["error"], "children failed");
    let both = [failed("a", "too early"), failed("c", "too late")];
    assert_eq!(error["data"], serde_json::json!(both));
}

/// An error is small enough to travel, whatever the group.
#[test]
fn a_large_group_reports_its_first_failures_and_how_many_there_were() {
    let mut tree = Tree::rooted("par", TaskKind::Parallel).waiting_for_all();
    let ids: Vec<_> = (0..150).map(|n| format!("w{n}")).collect();
    for id in &ids {
        tree = tree.child("par", id, WORK);
    }
    let mut peer = Peer::plant(tree);
    for id in &ids {
        peer.work(id, Err("no"));
    }
    let error: serde_json::Value = serde_json::from_str(peer.output("par")).unwrap();
    let data = error["data"].as_array().unwrap();
    assert_eq!(
        (data.len(), &data[99]["id"]),
        (100, &serde_json::json!("w99"))
    );
    assert!(error["message"].as_str().unwrap().contains("150"));

    let mut tree = Tree::rooted("par", TaskKind::Parallel).waiting_for_all();
    for id in &ids[..3] {
        tree = tree.child("par", id, WORK);
    }
    let mut peer = Peer::plant(tree);
    for id in &ids[..3] {
        peer.work(id, Err(&"x".repeat(30_000)));
    }
    let error: serde_json::Value = serde_json::from_str(peer.output("par")).unwrap();
    assert_eq!(error["data"].as_array().unwrap().len(), 2);
    assert!(error["message"].as_str().unwrap().contains("first 2"));
}

#[test]
fn an_empty_group_finishes_at_once() {
    for kind in [WORK, TaskKind::Parallel] {
        let peer = Peer::plant(Tree::rooted("group", kind));
        assert_eq!(peer.status("group"), Status::Finished);
    }
}

#[test]
fn groups_nest_and_the_end_goes_all_the_way_up() {
    let tree = Tree::rooted("group0", WORK)
        .child("group0", "par", TaskKind::Parallel)
        .child("par", "group1", WORK)
        .child("group1", "a", WORK)
        .child("par", "b", TaskKind::Simple)
        .child("group0", "c", WORK);
    let mut peer = Peer::plant(tree);
    assert!(peer.waits("a") && !peer.waits("c"));
    assert!(peer.changes.outgoing[0].carries_task);
    peer.tell(update("1", B, "b", Status::Finished, "hi", None));
    peer.work("a", Ok("1"));
    assert_eq!(peer.status("par"), Status::Finished);
    peer.work("c", Ok("3"));
    assert_eq!(peer.status("group0"), Status::Finished);
}

#[test]
fn what_is_sent_goes_out_when_its_turn_comes() {
    let tree =
        Tree::rooted("group", WORK)
            .child("group", "a", WORK)
            .child("group", "b", TaskKind::Simple);
    let mut peer = Peer::plant(tree);
    assert!(peer.changes.outgoing.is_empty());
    peer.work("a", Ok("1"));
    assert_eq!(peer.changes.outgoing.len(), 1);
}

#[test]
fn a_refused_child_ends_its_parent() {
    let tree = Tree::rooted("group", WORK).child("group", "t", TaskKind::Simple);
    let mut peer = Peer::plant(tree);
    let why = String::new();
    peer.tell(delivery("t", DeliveryOutcome::Refused { status: 404, why }));
    assert_eq!(peer.status("group"), Status::Error);
    assert!(peer.output("group").contains("unknown action"));
}

#[test]
fn an_external_task_waits_for_its_turn_and_then_for_a_person() {
    let tree = Tree::rooted("group", WORK).child("group", "a", WORK).child(
        "group",
        "ext",
        TaskKind::External,
    );
    let mut peer = Peer::plant(tree);
    let decide = |outcome| Event::FinishExternal {
        id: "ext".into(),
        outcome,
    };
    assert!(matches!(
        peer.tell(decide(Ok(json(&1)))),
        Answer::Conflict(_)
    ));
    peer.work("a", Ok("1"));
    assert_eq!(peer.status("ext"), Status::Executing);
    assert_eq!(peer.tell(decide(Ok(json(&"yes")))), Answer::Accepted);
    assert_eq!(
        (peer.status("ext"), peer.status("group")),
        (Status::Finished, Status::Finished)
    );
    assert!(matches!(
        peer.tell(decide(Ok(json(&"no")))),
        Answer::Conflict(_)
    ));
    let other = Event::FinishExternal {
        id: "a".into(),
        outcome: Ok(json(&1)),
    };
    assert!(matches!(peer.tell(other), Answer::Conflict(_)));
}

#[test]
fn a_denied_external_task_ends_its_tree() {
    let tree = Tree::rooted("group", WORK)
        .child("group", "ext", TaskKind::External)
        .child("group", "b", WORK);
    let mut peer = Peer::plant(tree);
    let outcome = Err(TaskError::new(TaskError::DENIED, "not like this"));
    peer.tell(Event::FinishExternal {
        id: "ext".into(),
        outcome,
    });
    assert_eq!(
        (peer.status("group"), peer.status("b")),
        (Status::Error, Status::Cancelled)
    );
    assert!(peer.output("group").contains("not like this"));
}

/// A handler of a received task leaves two subtasks, and may say what becomes of their errors.
fn received_with_children(options: ActionOptions) -> Peer {
    let (mut peer, epoch) = receiver_that_runs_a_task();
    let children = ["a", "b"].iter().zip(0..);
    let children = children.map(|(id, order)| node(id, WORK, Some("t".into()), order));
    peer.tell(left("t", epoch, children.collect(), options));
    peer
}

#[test]
fn a_handlers_subtasks_run_in_order_and_then_its_task_finishes_with_its_own_output() {
    let mut peer = received_with_children(ActionOptions::DEFAULT);
    assert_eq!(peer.status("t"), Status::Executing);
    // The sender is told of the output so far, as the original does.
    assert_eq!(peer.changes.outgoing.len(), 1);
    peer.work("a", Ok("1"));
    peer.work("b", Ok("2"));
    assert_eq!(
        (peer.status("t"), peer.output("t")),
        (Status::Finished, "\"mine\"")
    );
    let last = peer.changes.outgoing.last().unwrap();
    assert_eq!(last.rev, Some(2));
    // Its own output goes along, from its row.
    assert!(matches!(
        last.data,
        Data::Update {
            status: Status::Finished,
            output: None
        }
    ));
}

#[test]
fn a_handler_that_recovers_lets_the_next_subtask_run() {
    let options = ActionOptions {
        handles_errors: true,
        ..ActionOptions::DEFAULT
    };
    let mut peer = received_with_children(options);
    peer.work("a", Err("oops"));
    // Its handler is asked: another run of the task, with the error.
    assert!(peer.waits("t") && !peer.waits("b"));
    assert!(peer.output("t").contains("oops"));
    peer.work("t", Ok("recovered"));
    assert!(peer.waits("b"));
    peer.work("b", Ok("2"));
    assert_eq!(
        (peer.status("t"), peer.output("t")),
        (Status::Finished, "\"recovered\"")
    );
}

#[test]
fn a_handler_that_does_not_recover_ends_its_task() {
    let options = ActionOptions {
        handles_errors: true,
        ..ActionOptions::DEFAULT
    };
    let mut peer = received_with_children(options);
    peer.work("a", Err("oops"));
    peer.work("t", Err("oops"));
    assert_eq!(
        (peer.status("t"), peer.status("b")),
        (Status::Error, Status::Cancelled)
    );
}

#[test]
fn a_cut_off_error_handler_is_asked_again() {
    let options = ActionOptions {
        handles_errors: true,
        ..ActionOptions::DEFAULT
    };
    let mut peer = received_with_children(options);
    peer.work("a", Err("oops"));
    peer.claim("t");
    peer.tell(Event::Interrupted {
        id: "t".into(),
        owner: NODE,
        options,
    });
    peer.work("t", Ok("recovered"));
    assert!(peer.waits("b"));
}

#[test]
fn calling_off_reaches_the_whole_subtree() {
    let tree = Tree::rooted("group0", WORK)
        .child("group0", "par", TaskKind::Parallel)
        .child("par", "a", WORK)
        .child("par", "b", TaskKind::Simple)
        .child("group0", "c", WORK);
    let mut peer = Peer::plant(tree);
    peer.tell(Event::Cancel {
        id: "group0".into(),
        why: "enough".into(),
    });
    for id in ["group0", "par", "a", "b", "c"] {
        assert_eq!(peer.status(id), Status::Cancelled, "{id}");
    }
    assert!(peer.output("group0").contains("enough"));
    let again = Event::Cancel {
        id: "group0".into(),
        why: String::new(),
    };
    assert!(matches!(peer.tell(again), Answer::Conflict(_)));
}

#[test]
fn only_the_sender_of_a_task_calls_it_off_over_the_wire() {
    let (mut peer, _) = receiver_that_runs_a_task();
    let off = |message: &str, from| received(message, 1, from, MessageKind::Cancel("t".into()));
    assert_eq!(peer.tell(off("x", B)), Answer::UnknownTask);
    assert_eq!(peer.status("t"), Status::Executing);
    assert_eq!(peer.tell(off("y", A)), Answer::Accepted);
    assert_eq!(peer.status("t"), Status::Cancelled);
    assert_eq!(peer.changes.cancelled_runs, [TaskId::from("t")]);
    // Again: nothing to do, and no error.
    assert_eq!(peer.tell(off("z", A)), Answer::Ignored);
}

#[test]
fn an_expired_task_takes_its_subtree_along() {
    let mut tree = Tree::rooted("group", WORK).child("group", "a", WORK);
    tree.rows[0].state.expires_at = Some(NOW + Duration::from_secs(1));
    let mut peer = Peer::plant(tree);
    peer.tell_at(Event::Expire("group".into()), NOW + Duration::from_secs(1));
    assert_eq!(
        (peer.status("group"), peer.status("a")),
        (Status::Expired, Status::Cancelled)
    );
}

/// Whichever of them is looked at first.
#[test]
fn a_group_whose_tasks_expire_with_it_is_expired_and_not_failed() {
    let at = NOW + Duration::from_secs(1);
    for first in ["group", "par", "a"] {
        let mut tree = Tree::rooted("group", WORK)
            .child("group", "par", TaskKind::Parallel)
            .child("par", "a", TaskKind::Simple);
        for row in &mut tree.rows {
            row.state.expires_at = Some(at);
        }
        let mut peer = Peer::plant(tree);
        peer.tell_at(Event::Expire(first.into()), at);
        assert_eq!(peer.status("group"), Status::Expired, "{first} first");
        for id in ["par", "a"] {
            assert!(peer.status(id).is_terminal(), "{id}, {first} first");
        }
    }
}

#[test]
fn a_subtask_sets_its_parents_output() {
    let tree = Tree::rooted("group", WORK).child("group", "a", WORK);
    let mut peer = Peer::plant(tree);
    let epoch = peer.claim("a");
    let done = Done {
        output: json(&1),
        parent_output: Some(json(&"both")),
        children: Vec::new(),
        inputs: Vec::new(),
    };
    peer.tell(Event::Completed {
        id: "a".into(),
        queue: "q".into(),
        epoch,
        outcome: Ok(Box::new(done)),
        transaction: Transaction::default(),
        options: ActionOptions::DEFAULT,
    });
    assert_eq!(
        (peer.status("group"), peer.output("group")),
        (Status::Finished, "\"both\"")
    );
}

/// A chain of groups, each the only child of the one before: nothing recurses into it.
#[test]
fn no_tree_is_too_deep() {
    let mut tree = Tree::rooted("group0", WORK);
    for depth in 1..20_000 {
        let mut row = node(&format!("group{depth}"), WORK, None, 0);
        row.state.parent = Some(format!("group{}", depth - 1).into());
        tree.rows.last_mut().unwrap().state.open_children = 1;
        tree.rows.push(row);
    }
    let peer = Peer::plant(tree);
    assert_eq!(peer.status("group0"), Status::Finished);
}

/// Whatever the tree, the outcomes and their order: it ends, each end is final, sequences keep
/// their order, and no finished task is run again.
#[test]
fn any_tree_ends_and_every_end_is_final() {
    for seed in 0..300 {
        walk(&mut fastrand::Rng::with_seed(seed), seed);
    }
}

fn random_tree(rng: &mut fastrand::Rng) -> Tree {
    let mut tree = Tree::rooted("group0", if rng.bool() { WORK } else { TaskKind::Parallel });
    let mut groups = vec![("group0".to_owned(), 0)];
    for n in 1..rng.usize(2..200) {
        let (parent, depth) = groups[rng.usize(..groups.len())].clone();
        let (id, kind) = match rng.u8(..10) {
            0 | 1 if depth < 6 => (format!("group{n}"), WORK),
            2 | 3 if depth < 6 => (format!("par{n}"), TaskKind::Parallel),
            4 => (format!("ext{n}"), TaskKind::External),
            5 | 6 => (format!("t{n}"), TaskKind::Simple),
            _ => (format!("w{n}"), WORK),
        };
        tree = tree.child(&parent, &id, kind);
        if id.starts_with("group") || id.starts_with("par") {
            groups.push((id, depth + 1));
        }
    }
    for row in &mut tree.rows {
        if row.state.kind == TaskKind::Parallel && rng.bool() {
            row.state.on_failure = OnFailure::WaitForAll;
        }
    }
    tree
}

fn walk(rng: &mut fastrand::Rng, seed: u64) {
    let tree = random_tree(rng);
    let ids: Vec<TaskId> = tree.rows.iter().map(|row| row.state.id.clone()).collect();
    let likely = rng.f64();
    let mut peer = Peer::plant(tree);
    let mut ends: std::collections::HashMap<TaskId, Status> = Default::default();
    let mut message = 0;
    while !peer.status("group0").is_terminal() {
        let open: Vec<&TaskId> = ids
            .iter()
            .filter(|id| {
                let task = peer.task(id.as_str());
                let acts = match task.kind {
                    // Its message is out.
                    TaskKind::Simple => peer
                        .changes
                        .outgoing
                        .iter()
                        .any(|m| m.task == **id && m.carries_task),
                    TaskKind::External => task.status == Status::Executing,
                    _ => peer.waits(id.as_str()),
                };
                acts && !task.status.is_terminal()
            })
            .collect();
        assert!(!open.is_empty(), "seed {seed}: the tree stands still");
        let id = open[rng.usize(..open.len())].as_str().to_owned();
        let well = rng.f64() < likely;
        message += 1;
        match peer.task(&id).kind {
            TaskKind::Simple => {
                let status = if well {
                    Status::Finished
                } else {
                    Status::Error
                };
                let name = format!("m{message}");
                for late in [status, Status::Executing, status] {
                    peer.tell(update(&format!("{name}{late}"), B, &id, late, "x", None));
                }
            }
            TaskKind::External => {
                let outcome = if well {
                    Ok(json(&1))
                } else {
                    Err(TaskError::new("denied", "no"))
                };
                peer.tell(Event::FinishExternal {
                    id: id.as_str().into(),
                    outcome,
                });
            }
            _ => {
                if rng.u8(..5) == 0 {
                    peer.claim(&id);
                    let (id, owner) = (id.as_str().into(), NODE);
                    peer.tell(Event::Interrupted {
                        id,
                        owner,
                        options: ActionOptions::DEFAULT,
                    });
                    continue;
                }
                peer.work(&id, if well { Ok("1") } else { Err("no") });
            }
        }
        for id in &ids {
            let task = peer.task(id.as_str());
            if let Some(end) = ends.get(id) {
                assert_eq!(task.status, *end, "seed {seed}: {id} ended twice");
            } else if task.status.is_terminal() {
                ends.insert(id.clone(), task.status);
            }
            assert!(
                !(task.status.is_terminal() && task.moment.is_some()),
                "seed {seed}: {id} would run again"
            );
        }
        in_order(&peer, &ids, seed);
    }
    for id in &ids {
        assert!(
            peer.task(id.as_str()).status.is_terminal(),
            "seed {seed}: {id} is left over"
        );
    }
}

/// In a sequence nothing has begun whose predecessor has not finished.
fn in_order(peer: &Peer, ids: &[TaskId], seed: u64) {
    for id in ids {
        let task = peer.task(id.as_str());
        let Some(parent) = &task.parent else { continue };
        let begun =
            task.moment.is_some() || matches!(task.status, Status::Executing | Status::Finished);
        if task.order == 0 || !begun || peer.task(parent.as_str()).kind == TaskKind::Parallel {
            continue;
        }
        let before = ids.iter().map(|id| peer.task(id.as_str()));
        let mut before =
            before.filter(|t| t.parent.as_ref() == Some(parent) && t.order == task.order - 1);
        let status = before.next().unwrap().status;
        assert_eq!(
            status,
            Status::Finished,
            "seed {seed}: {id} began too early"
        );
    }
}
