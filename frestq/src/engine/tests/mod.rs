//! The rules of the contract that the engine holds, each as a test on rows in memory.

mod federation;
mod interrupted;
mod pins;
mod recovery;
mod reservations;
mod synchronized;
mod trees;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use crate::engine::{
    Answer, BatchState, Changes, Delivery, DeliveryOutcome, Done, Event, MessageKind, MissingRow,
    Received, RowRequests, StepContext, Update, claim, prefetch, step,
};
use crate::model::{
    ActionOptions, Data, InboxKey, InboxRow, Json, MessageId, NewTask, NodeId, OutboxRow, PeerId,
    Role, Status, TaskId, TaskKind, TaskState, error::TaskError, statements::Transaction, to_json,
};

const A: PeerId = PeerId(1);
const B: PeerId = PeerId(2);
const NODE: NodeId = NodeId(7);
const NOW: Timestamp = Timestamp::UNIX_EPOCH;

/// A database in memory: everything that the world lacks is not there.
#[derive(Default)]
pub(super) struct Peer {
    world: BatchState,
    changes: Changes,
}

impl Peer {
    fn tell(&mut self, event: Event) -> Answer {
        self.tell_at(event, NOW)
    }

    fn tell_at(&mut self, event: Event, now: Timestamp) -> Answer {
        loop {
            let mut turn = StepContext::new(&self.world);
            match step(&mut turn, &event, now) {
                Ok(answer) => {
                    self.world.apply(turn.finish(), &mut self.changes);
                    return answer;
                }
                Err(MissingRow::Task(id)) => drop(self.world.tasks.insert(id, None)),
                Err(MissingRow::Inbox(key)) => drop(self.world.inbox.insert(key, None)),
                Err(MissingRow::Child(parent, order)) => {
                    self.world.places.insert((parent, order), None);
                }
                Err(MissingRow::Key(key)) => drop(self.world.keys.insert(key, None)),
                Err(MissingRow::Outputs(ids)) => {
                    for id in ids {
                        let output = self.changes.outputs[&id].clone();
                        self.world.outputs.insert(id, output);
                    }
                }
                Err(MissingRow::Family(parent)) => {
                    self.world.families.insert(parent, Vec::new());
                }
            }
        }
    }

    fn task(&self, id: &str) -> &TaskState {
        self.world.tasks[&TaskId::from(id)]
            .as_ref()
            .expect("the task is there")
    }

    fn claim(&mut self, id: &str) -> i64 {
        let task = self.world.tasks.get_mut(&TaskId::from(id)).unwrap();
        let task = task.as_mut().unwrap();
        claim(task, NODE, NOW);
        task.epoch
    }

    fn output(&self, id: &str) -> &str {
        self.changes.outputs[&TaskId::from(id)].get()
    }
}

fn new_task(id: &str, role: Role, peer: PeerId) -> NewTask {
    NewTask {
        state: TaskState {
            id: id.into(),
            kind: if role == Role::Sent {
                TaskKind::Simple
            } else {
                TaskKind::Sequential
            },
            role,
            peer,
            queue: "q".into(),
            action: "act".into(),
            ..TaskState::new(NOW)
        },
        input: json(&1),
        label: None,
        info: None,
        pingback_at: None,
        priority: 0,
        unique_key: None,
        created_at: NOW,
    }
}

fn json<T: serde::Serialize>(value: &T) -> Json {
    to_json(value).unwrap()
}

fn received(message: &str, hash: u8, from: PeerId, what: MessageKind) -> Event {
    let row = InboxRow {
        key: InboxKey {
            peer: from,
            message: message.into(),
        },
        hash: [hash; 16],
        queue: "q".into(),
        action: "act".into(),
        task: None,
        data: None,
        received_at: NOW,
        evidence: None,
    };
    Event::Receive(Box::new(Received {
        row,
        certificate: None,
        what,
    }))
}

fn asked(message: &str, hash: u8, from: PeerId, id: &str) -> Event {
    received(
        message,
        hash,
        from,
        MessageKind::Task(Box::new(new_task(id, Role::Received, from))),
    )
}

fn update(
    message: &str,
    from: PeerId,
    id: &str,
    status: Status,
    output: &str,
    rev: Option<i64>,
) -> Event {
    let update = Update {
        task: id.into(),
        status,
        output: json(&output),
        rev,
    };
    received(message, 1, from, MessageKind::Update(update))
}

fn completed(
    id: &str,
    epoch: i64,
    outcome: Result<Json, TaskError>,
    options: ActionOptions,
) -> Event {
    let outcome = outcome.map(|output| {
        Box::new(Done {
            output,
            parent_output: None,
            children: Vec::new(),
            inputs: Vec::new(),
        })
    });
    Event::Completed {
        id: id.into(),
        queue: "q".into(),
        epoch,
        outcome,
        transaction: Transaction::default(),
        options,
    }
}

/// The run of a handler ends well, and leaves subtasks.
fn left(id: &str, epoch: i64, children: Vec<NewTask>, options: ActionOptions) -> Event {
    let done = Done {
        output: json(&"mine"),
        parent_output: None,
        children,
        inputs: Vec::new(),
    };
    Event::Completed {
        id: id.into(),
        queue: "q".into(),
        epoch,
        outcome: Ok(Box::new(done)),
        transaction: Transaction::default(),
        options,
    }
}

fn delivery(id: &str, verdict: DeliveryOutcome) -> Event {
    let message = OutboxRow {
        seq: 1,
        peer: B,
        message: MessageId::from("m"),
        queue: "q".into(),
        action: "act".into(),
        task: id.into(),
        carries_task: true,
        pin: None,
        body: "{}".into(),
        expires_at: None,
        attempts: 0,
        due_at: NOW,
        created_at: NOW,
        moot: false,
    };
    Event::Delivery(Box::new(Delivery {
        message: Arc::new(message),
        verdict,
    }))
}

fn sender_with_a_task() -> Peer {
    let mut peer = Peer::default();
    peer.tell(Event::Send(vec![new_task("t", Role::Sent, B)]));
    peer
}

fn receiver_that_runs_a_task() -> (Peer, i64) {
    let mut peer = Peer::default();
    assert_eq!(peer.tell(asked("m", 1, A, "t")), Answer::Accepted);
    let epoch = peer.claim("t");
    (peer, epoch)
}

#[test]
fn a_sent_task_is_stored_with_the_message_that_carries_it() {
    let peer = sender_with_a_task();
    assert_eq!(peer.changes.created.len(), 1);
    let [message] = &peer.changes.outgoing[..] else {
        panic!("not one message")
    };
    assert!(message.carries_task && message.peer == B && matches!(message.data, Data::Input));
}

#[test]
fn a_local_task_needs_no_message() {
    let mut peer = Peer::default();
    peer.tell(Event::Send(vec![new_task("t", Role::Local, PeerId::SELF)]));
    assert!(peer.changes.outgoing.is_empty() && super::runs_now(peer.task("t"), NOW));
}

#[test]
fn a_repeated_message_has_one_effect() {
    let mut peer = Peer::default();
    for _ in 0..3 {
        assert_eq!(peer.tell(asked("m", 1, A, "t")), Answer::Accepted);
    }
    assert_eq!(
        (peer.changes.created.len(), peer.changes.accepted.len()),
        (1, 1)
    );
}

#[test]
fn a_message_id_with_another_body_is_a_conflict() {
    let mut peer = Peer::default();
    peer.tell(asked("m", 1, A, "t"));
    assert!(matches!(
        peer.tell(asked("m", 2, A, "u")),
        Answer::Conflict(_)
    ));
    assert_eq!(peer.changes.created.len(), 1);
}

#[test]
fn two_peers_may_choose_the_same_message_id() {
    let mut peer = Peer::default();
    assert_eq!(peer.tell(asked("m", 1, A, "t")), Answer::Accepted);
    assert_eq!(peer.tell(asked("m", 2, B, "u")), Answer::Accepted);
    assert_eq!(peer.changes.created.len(), 2);
}

#[test]
fn a_task_is_not_run_again_under_another_message_id() {
    let (mut peer, epoch) = receiver_that_runs_a_task();
    peer.tell(completed(
        "t",
        epoch,
        Ok(json(&"done")),
        ActionOptions::DEFAULT,
    ));
    for from in [A, B] {
        assert!(matches!(
            peer.tell(asked("n", 1, from, "t")),
            Answer::Conflict(_)
        ));
    }
    assert_eq!(peer.task("t").status, Status::Finished);
    assert_eq!(peer.changes.accepted.len(), 1);
}

#[test]
fn a_completion_sends_one_update_with_the_output() {
    let (mut peer, epoch) = receiver_that_runs_a_task();
    assert_eq!(
        peer.tell(completed(
            "t",
            epoch,
            Ok(json(&"hello")),
            ActionOptions::DEFAULT
        )),
        Answer::Accepted
    );
    let [message] = &peer.changes.outgoing[..] else {
        panic!("not one message")
    };
    let Data::Update { status, output } = &message.data else {
        panic!("not an update")
    };
    assert_eq!(*status, Status::Finished);
    assert_eq!(
        output.as_ref().map(|output| output.get()),
        Some("\"hello\"")
    );
    assert_eq!(
        (message.rev, message.peer, message.carries_task),
        (Some(1), A, false)
    );
}

#[test]
fn a_completion_under_an_older_claim_is_ignored() {
    let (mut peer, old) = receiver_that_runs_a_task();
    peer.tell(Event::Interrupted {
        id: "t".into(),
        owner: NODE,
        options: ActionOptions::DEFAULT,
    });
    let new = peer.claim("t");
    assert_eq!(
        peer.tell(completed("t", old, Ok(json(&1)), ActionOptions::DEFAULT)),
        Answer::Ignored
    );
    assert_eq!(peer.task("t").status, Status::Executing);
    assert_eq!(
        peer.tell(completed("t", new, Ok(json(&2)), ActionOptions::DEFAULT)),
        Answer::Accepted
    );
    assert_eq!(peer.output("t"), "2");
}

#[test]
fn a_second_completion_is_ignored() {
    let (mut peer, epoch) = receiver_that_runs_a_task();
    peer.tell(completed("t", epoch, Ok(json(&1)), ActionOptions::DEFAULT));
    assert_eq!(
        peer.tell(completed("t", epoch, Ok(json(&2)), ActionOptions::DEFAULT)),
        Answer::Ignored
    );
    assert_eq!((peer.output("t"), peer.changes.outgoing.len()), ("1", 1));
}

#[test]
fn a_handlers_err_is_final_unless_the_action_declares_retries() {
    let failed = || Err(TaskError::new("failed", "no"));
    let (mut peer, epoch) = receiver_that_runs_a_task();
    peer.tell(completed("t", epoch, failed(), ActionOptions::DEFAULT));
    assert_eq!(peer.task("t").status, Status::Error);
    assert_eq!(peer.output("t"), r#"{"error":"failed","message":"no"}"#);

    let options = ActionOptions {
        retries: 2,
        ..ActionOptions::DEFAULT
    };
    let (mut peer, mut epoch) = receiver_that_runs_a_task();
    for wait in [1, 5] {
        peer.tell(completed("t", epoch, failed(), options));
        assert_eq!(peer.task("t").status, Status::Created);
        assert_eq!(peer.task("t").run_at, Some(NOW + Duration::from_secs(wait)));
        assert!(!super::runs_now(peer.task("t"), NOW));
        epoch = peer.claim("t");
    }
    peer.tell(completed("t", epoch, failed(), options));
    assert_eq!(
        (peer.task("t").status, peer.changes.outgoing.len()),
        (Status::Error, 1)
    );
}

#[test]
fn a_run_that_was_cut_off_is_repeated_until_max_attempts() {
    let options = ActionOptions {
        max_attempts: 2,
        ..ActionOptions::DEFAULT
    };
    let (mut peer, _) = receiver_that_runs_a_task();
    let cut = || Event::Interrupted {
        id: "t".into(),
        owner: NODE,
        options,
    };
    peer.tell(cut());
    assert!(super::runs_now(peer.task("t"), NOW));
    peer.claim("t");
    peer.tell(cut());
    assert_eq!(peer.task("t").status, Status::Error);
    assert!(peer.output("t").contains("interrupted"));
}

#[test]
fn at_most_once_is_never_repeated() {
    let options = ActionOptions {
        at_most_once: true,
        ..ActionOptions::DEFAULT
    };
    let (mut peer, _) = receiver_that_runs_a_task();
    peer.tell(Event::Interrupted {
        id: "t".into(),
        owner: NODE,
        options,
    });
    assert_eq!(peer.task("t").status, Status::Error);
    assert!(peer.output("t").contains("interrupted"));
}

#[test]
fn only_the_owners_death_cuts_a_run_off() {
    let (mut peer, _) = receiver_that_runs_a_task();
    let cut = Event::Interrupted {
        id: "t".into(),
        owner: NodeId(8),
        options: ActionOptions::DEFAULT,
    };
    assert_eq!(peer.tell(cut), Answer::Ignored);
    assert_eq!(peer.task("t").status, Status::Executing);
}

#[test]
fn late_executing_update_does_not_reopen_a_finished_task() {
    let mut peer = sender_with_a_task();
    peer.tell(update("1", B, "t", Status::Finished, "hello", None));
    assert_eq!(
        peer.tell(update("2", B, "t", Status::Executing, "late", None)),
        Answer::Ignored
    );
    assert_eq!(
        (peer.task("t").status, peer.output("t")),
        (Status::Finished, "\"hello\"")
    );
}

#[test]
fn a_second_finished_update_changes_nothing() {
    let mut peer = sender_with_a_task();
    peer.tell(update("1", B, "t", Status::Finished, "first", None));
    assert_eq!(
        peer.tell(update("2", B, "t", Status::Finished, "second", None)),
        Answer::Ignored
    );
    // Nor does it leave anything behind, however many there are.
    assert_eq!(peer.changes.accepted.len(), 1);
    assert_eq!(peer.output("t"), "\"first\"");
}

#[test]
fn an_older_revision_changes_nothing() {
    let mut peer = sender_with_a_task();
    peer.tell(update("1", B, "t", Status::Executing, "newer", Some(5)));
    for rev in [4, 5] {
        let message = rev.to_string();
        peer.tell(update(
            &format!("x{message}"),
            B,
            "t",
            Status::Finished,
            "older",
            Some(rev),
        ));
    }
    assert_eq!(
        (peer.task("t").status, peer.task("t").rev),
        (Status::Executing, 5)
    );
    peer.tell(update("6", B, "t", Status::Finished, "newest", Some(6)));
    assert_eq!(peer.output("t"), "\"newest\"");
}

#[test]
fn only_the_receiver_of_a_task_updates_it() {
    let mut peer = sender_with_a_task();
    let stranger = peer.tell(update("1", A, "t", Status::Finished, "forged", None));
    let unknown = peer.tell(update("2", A, "nothing", Status::Finished, "forged", None));
    assert_eq!(
        (stranger, unknown),
        (Answer::UnknownTask, Answer::UnknownTask)
    );
    assert_eq!(peer.task("t").status, Status::Created);
    assert!(peer.changes.accepted.is_empty());
}

#[test]
fn a_received_task_takes_no_update() {
    let (mut peer, _) = receiver_that_runs_a_task();
    let answer = peer.tell(update("1", A, "t", Status::Finished, "forged", None));
    assert_eq!(answer, Answer::UnknownTask);
}

#[test]
fn an_acknowledgement_that_comes_after_the_result_changes_nothing() {
    let mut peer = sender_with_a_task();
    peer.tell(update("1", B, "t", Status::Finished, "hello", None));
    peer.tell(delivery("t", DeliveryOutcome::Delivered));
    assert_eq!(peer.task("t").status, Status::Finished);

    let mut peer = sender_with_a_task();
    peer.tell(delivery("t", DeliveryOutcome::Delivered));
    assert_eq!(peer.task("t").status, Status::Sent);
}

#[test]
fn a_refusal_ends_the_task_and_names_what_was_asked() {
    for (status, code) in [(404, "unknown action"), (400, "refused"), (403, "refused")] {
        let mut peer = sender_with_a_task();
        peer.tell(delivery(
            "t",
            DeliveryOutcome::Refused {
                status,
                why: "because".into(),
            },
        ));
        assert_eq!(peer.task("t").status, Status::Error);
        let output = peer.output("t");
        assert!(
            output.contains(code) && output.contains("q/act") && output.contains("because"),
            "{output}"
        );
    }
}

#[test]
fn a_message_that_is_given_up_ends_its_task_in_undeliverable() {
    let mut peer = sender_with_a_task();
    peer.tell(delivery(
        "t",
        DeliveryOutcome::GivenUp {
            why: "too late".into(),
        },
    ));
    assert_eq!(peer.task("t").status, Status::Undeliverable);
    assert!(peer.output("t").contains("undeliverable"));
}

/// The process may have died between an attempt and its answer, so it may have come all the same.
#[test]
fn a_task_that_was_called_off_before_it_was_sent_is_called_off_at_its_receiver_too() {
    let mut peer = sender_with_a_task();
    let (id, why) = ("t".into(), "not wanted".into());
    peer.tell(Event::Cancel { id, why });
    peer.changes.outgoing.clear();
    let why = "called off before it was sent".into();
    peer.tell(delivery("t", DeliveryOutcome::GivenUp { why }));
    let sent = &peer.changes.outgoing;
    assert_eq!(sent.len(), 1);
    assert_eq!(&*sent[0].action, "frestq.cancel_task");
    assert_eq!(peer.task("t").status, Status::Cancelled);
}

/// Or a receiver could fill the disk with one open task.
#[test]
fn of_updates_that_lead_nowhere_only_the_newest_payload_is_kept() {
    let mut peer = sender_with_a_task();
    for (n, status) in [
        (1, Status::Executing),
        (2, Status::Executing),
        (3, Status::Finished),
    ] {
        let said = format!("said {n}");
        let mut event = update(&n.to_string(), B, "t", status, &said, Some(n));
        if let Event::Receive(received) = &mut event {
            received.row.task = Some("t".into());
            received.row.data = Some(json(&said));
        }
        peer.tell(event);
        assert!(peer.output("t").contains(&said));
    }
    let kept = peer.changes.accepted.iter().map(|row| row.data.is_some());
    assert_eq!(kept.collect::<Vec<_>>(), [true, false, true]);
}

#[test]
fn a_refusal_after_the_end_changes_nothing() {
    let mut peer = sender_with_a_task();
    peer.tell(update("1", B, "t", Status::Finished, "hello", None));
    peer.tell(delivery(
        "t",
        DeliveryOutcome::Refused {
            status: 404,
            why: String::new(),
        },
    ));
    assert_eq!(
        (peer.task("t").status, peer.output("t")),
        (Status::Finished, "\"hello\"")
    );
}

#[test]
fn a_task_expires_at_its_date_and_not_before() {
    let at = NOW + Duration::from_secs(10);
    let mut task = new_task("t", Role::Received, A);
    task.state.expires_at = Some(at);
    let mut peer = Peer::default();
    peer.tell(received("m", 1, A, MessageKind::Task(Box::new(task))));
    assert_eq!(
        peer.tell_at(Event::Expire("t".into()), NOW),
        Answer::Ignored
    );
    assert_eq!(
        peer.tell_at(Event::Expire("t".into()), at),
        Answer::Accepted
    );
    assert_eq!(peer.task("t").status, Status::Expired);
    // To other peers it is an error: the original knows no other word.
    let Data::Update { status, .. } = &peer.changes.outgoing[0].data else {
        panic!("not an update")
    };
    assert_eq!(*status, Status::Error);
}

#[test]
fn a_raw_message_is_not_reported_back() {
    let mut task = new_task("t", Role::Received, A);
    task.state.kind = TaskKind::Message;
    let mut peer = Peer::default();
    peer.tell(received("m", 1, A, MessageKind::Task(Box::new(task))));
    let epoch = peer.claim("t");
    peer.tell(completed("t", epoch, Ok(json(&())), ActionOptions::DEFAULT));
    assert!(peer.changes.outgoing.is_empty() && peer.task("t").status == Status::Finished);
}

#[test]
fn what_is_foreseen_is_all_that_a_step_needs() {
    let events = [
        Event::Send(vec![new_task("t", Role::Sent, B)]),
        asked("m", 1, A, "t"),
        update("m", B, "t", Status::Finished, "x", None),
        completed("t", 1, Ok(json(&1)), ActionOptions::DEFAULT),
        delivery("t", DeliveryOutcome::Delivered),
        Event::Interrupted {
            id: "t".into(),
            owner: NODE,
            options: ActionOptions::DEFAULT,
        },
        Event::Expire("t".into()),
    ];
    for event in events {
        let (mut wanted, mut world) = (RowRequests::default(), BatchState::default());
        prefetch(&event, &mut wanted);
        world
            .tasks
            .extend(wanted.tasks.into_iter().map(|id| (id, None)));
        world
            .inbox
            .extend(wanted.inbox.into_iter().map(|key| (key, None)));
        assert!(
            step(&mut StepContext::new(&world), &event, NOW).is_ok(),
            "{event:?}"
        );
    }
}
