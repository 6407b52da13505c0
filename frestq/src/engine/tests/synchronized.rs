//! The rules of synchronized groups, one by one; `federation` tries them all at once.

use super::*;
use crate::model::{GroupPhase, RoundMark, RunPhase};

const LATER: Timestamp = Timestamp::constant(3600, 0);

/// A group of ours: a task of B and a task of A, both asked to reserve in round 1.
pub(super) fn group() -> Peer {
    let mut root = new_task("group", Role::Local, PeerId::SELF);
    root.state.kind = TaskKind::Synchronized;
    root.state.queue = "".into();
    root.state.open_children = 2;
    let mut rows = vec![root];
    for (order, (id, peer)) in [("one", A), ("two", B)].into_iter().enumerate() {
        let mut row = new_task(id, Role::Sent, peer);
        row.state.parent = Some("group".into());
        row.state.order = i64::try_from(order).unwrap();
        rows.push(row);
    }
    let mut peer = Peer::default();
    peer.tell(Event::Send(rows));
    peer
}

pub(super) fn confirm(message: &str, from: PeerId, id: &str, round: Option<i64>) -> Event {
    let what = MessageKind::Confirm {
        task: id.into(),
        reservation: json(&message),
        seconds: Some(60),
        round,
    };
    received(message, 1, from, what)
}

/// The actions of the messages that were sent since the last look.
pub(super) fn sent(peer: &mut Peer) -> Vec<String> {
    let outgoing = std::mem::take(&mut peer.changes.outgoing);
    let actions = outgoing
        .into_iter()
        .map(|message| message.action.to_string());
    actions.collect()
}

/// A task that A has asked us to reserve for, and that has.
pub(super) fn performer(round: i64) -> Peer {
    let mut peer = Peer::default();
    let mut task = new_task("t", Role::Received, A);
    task.state.round = RoundMark::from_code(round);
    task.pingback_at = Some(LATER);
    peer.tell(received(
        "m",
        1,
        A,
        MessageKind::Synchronize(Box::new(task)),
    ));
    assert_eq!(peer.task("t").moment, Some(RunPhase::Reserve));
    let epoch = peer.claim("t");
    peer.tell(completed("t", epoch, Ok(json(&7)), ActionOptions::DEFAULT));
    assert_eq!(peer.task("t").status, Status::Reserved);
    assert_eq!(peer.task("t").owner, Some(NODE), "it keeps its slot");
    peer
}

pub(super) fn start(message: &str, from: PeerId, input: u8) -> Event {
    let (task, input) = ("t".into(), json(&input));
    received(message, 1, from, MessageKind::Execute { task, input })
}

#[test]
fn none_starts_before_all_have_reserved_and_then_all_do() {
    let mut peer = group();
    assert_eq!(sent(&mut peer), ["frestq.synchronize_task"; 2]);
    peer.tell(confirm("m1", A, "one", Some(1)));
    assert!(sent(&mut peer).is_empty());
    // Twice, and under another id, is once.
    peer.tell(confirm("m1", A, "one", Some(1)));
    peer.tell(confirm("m2", A, "one", Some(1)));
    assert!(sent(&mut peer).is_empty());
    peer.tell(confirm("m3", B, "two", Some(1)));
    assert_eq!(sent(&mut peer), ["frestq.execute_synchronized"; 2]);
    assert_eq!(peer.task("group").status, Status::Executing);
}

#[test]
fn only_the_performer_confirms() {
    let mut peer = group();
    assert_eq!(
        peer.tell(confirm("m1", B, "one", Some(1))),
        Answer::UnknownTask
    );
    assert_eq!(
        peer.tell(confirm("m2", A, "group", Some(1))),
        Answer::UnknownTask
    );
    assert_eq!(
        peer.task("group").phase,
        GroupPhase::Reserving { reserved: 0 }
    );
}

#[test]
fn a_reservation_of_an_earlier_round_does_not_count() {
    let mut peer = group();
    peer.tell(confirm("m1", A, "one", Some(1)));
    sent(&mut peer);
    // The round is over, then the wait.
    for _ in 0..2 {
        let at = peer.task("group").wake_at.unwrap();
        peer.tell_at(Event::Wake("group".into()), at);
    }
    let mut messages = sent(&mut peer);
    messages.sort();
    let (cancel, ask) = ("frestq.cancel_reservation", "frestq.synchronize_task");
    assert_eq!(messages, [cancel, cancel, ask, ask]);
    assert_eq!(peer.task("group").round, RoundMark::Round(2));
    peer.tell(confirm("m2", A, "one", Some(1)));
    peer.tell(confirm("m3", B, "two", Some(2)));
    assert!(sent(&mut peer).is_empty());
    peer.tell(confirm("m4", A, "one", Some(2)));
    assert_eq!(sent(&mut peer), ["frestq.execute_synchronized"; 2]);
}

#[test]
fn what_an_original_performer_has_reserved_counts_in_every_round() {
    let mut peer = group();
    peer.tell(confirm("m1", A, "one", None));
    for _ in 0..2 {
        let at = peer.task("group").wake_at.unwrap();
        peer.tell_at(Event::Wake("group".into()), at);
    }
    sent(&mut peer);
    peer.tell(confirm("m2", B, "two", Some(2)));
    assert_eq!(sent(&mut peer), ["frestq.execute_synchronized"; 2]);
}

#[test]
fn the_first_word_to_start_counts_and_no_other() {
    let mut peer = performer(1);
    assert_eq!(peer.tell(start("m1", B, 1)), Answer::UnknownTask);
    assert_eq!(peer.tell(start("m2", A, 2)), Answer::Accepted);
    assert_eq!(peer.tell(start("m3", A, 3)), Answer::Ignored);
    assert_eq!(peer.changes.inputs[&TaskId::from("t")].get(), "2");
    assert_eq!(peer.changes.resumed, [TaskId::from("t")]);
    let epoch = peer.claim("t");
    peer.tell(completed("t", epoch, Ok(json(&1)), ActionOptions::DEFAULT));
    peer.tell(start("m4", A, 4));
    let task = peer.task("t");
    assert_eq!((task.status, task.moment), (Status::Finished, None));
}

#[test]
fn a_reservation_that_nobody_wants_in_time_is_given_back() {
    let mut peer = performer(1);
    sent(&mut peer);
    let at = peer.task("t").wake_at.unwrap();
    peer.tell_at(Event::Wake("t".into()), at);
    assert_eq!(peer.task("t").moment, Some(RunPhase::CancelReservation));
    assert_eq!(sent(&mut peer), ["frestq.refuse_reservation"]);
}

#[test]
fn a_performer_reports_at_the_pingback_date_too() {
    let mut peer = performer(1);
    peer.tell(start("m1", A, 1));
    peer.claim("t");
    sent(&mut peer);
    assert_eq!(peer.task("t").wake_at, Some(LATER));
    peer.tell_at(Event::Wake("t".into()), LATER);
    assert_eq!(sent(&mut peer), ["frestq.update_task"]);
    assert_eq!(peer.task("t").wake_at, None);
}

#[test]
fn a_task_that_ends_gives_back_what_it_holds() {
    let mut peer = performer(1);
    peer.tell(received("m1", 1, A, MessageKind::Cancel("t".into())));
    let task = peer.task("t");
    assert_eq!(task.status, Status::Cancelled);
    assert_eq!(
        (task.moment, task.owner),
        (Some(RunPhase::CancelReservation), None)
    );
    let epoch = peer.claim("t");
    peer.tell(completed("t", epoch, Ok(json(&0)), ActionOptions::DEFAULT));
    let task = peer.task("t");
    assert_eq!((task.status, task.moment), (Status::Cancelled, None));
}

/// The answer to its commit may have been lost.
#[test]
fn a_reservation_that_is_reported_twice_does_not_end_its_task() {
    let mut peer = performer(1);
    let epoch = peer.task("t").epoch;
    let again = completed("t", epoch, Ok(json(&7)), ActionOptions::DEFAULT);
    assert_eq!(peer.tell(again), Answer::Ignored);
    assert_eq!(peer.task("t").status, Status::Reserved);
}

/// Contract rule 7: a tree always ends.
#[test]
fn a_start_that_can_not_be_delivered_ends_the_group() {
    for verdict in [
        DeliveryOutcome::Refused {
            status: 404,
            why: "unknown".into(),
        },
        DeliveryOutcome::GivenUp {
            why: "too long".into(),
        },
    ] {
        let mut peer = group();
        peer.tell(confirm("m1", A, "one", Some(1)));
        sent(&mut peer);
        peer.tell(confirm("m2", B, "two", Some(1)));
        let start = peer
            .changes
            .outgoing
            .iter()
            .find(|m| m.task == TaskId::from("one"));
        let carries_task = start.expect("it is told to start").carries_task;
        let mut event = delivery("one", verdict);
        if let Event::Delivery(delivery) = &mut event {
            Arc::make_mut(&mut delivery.message).carries_task = carries_task;
        }
        peer.tell(event);
        assert_eq!(peer.task("group").status, Status::Error);
        assert_eq!(peer.task("two").status, Status::Cancelled);
    }
}

#[test]
fn a_task_counts_once_whatever_else_its_performer_says() {
    let mut peer = group();
    peer.tell(confirm("m1", A, "one", Some(1)));
    peer.tell(update("m2", A, "one", Status::Executing, "early", None));
    sent(&mut peer);
    peer.tell(confirm("m3", A, "one", Some(1)));
    assert!(sent(&mut peer).is_empty(), "two has not reserved");
    assert_eq!(peer.task("group").status, Status::Syncing);
}

#[test]
fn a_task_that_ends_early_does_not_start_the_others_before_they_reserved() {
    let mut peer = group();
    peer.tell(confirm("m1", A, "one", Some(1)));
    peer.tell(update("m2", A, "one", Status::Finished, "early", None));
    sent(&mut peer);
    assert_eq!(peer.task("group").status, Status::Syncing);
    peer.tell(confirm("m3", B, "two", Some(1)));
    assert_eq!(sent(&mut peer), ["frestq.execute_synchronized"]);
}

#[test]
fn a_raw_message_is_not_reported_on() {
    let mut peer = Peer::default();
    let mut task = new_task("t", Role::Received, A);
    task.state.kind = TaskKind::Message;
    task.state.wake_at = Some(LATER);
    peer.tell(received("m", 1, A, MessageKind::Task(Box::new(task))));
    peer.tell_at(Event::Wake("t".into()), LATER);
    assert!(sent(&mut peer).is_empty());
}

/// What the director is told of a failed round goes by it.
#[test]
fn only_who_has_reserved_is_marked_with_the_round() {
    let mut root = new_task("group", Role::Local, PeerId::SELF);
    root.state.kind = TaskKind::Synchronized;
    root.state.queue = "".into();
    root.state.open_children = 3;
    let mut rows = vec![root];
    for order in 0..3 {
        let mut row = new_task(&format!("c{order}"), Role::Local, PeerId::SELF);
        row.state.parent = Some("group".into());
        row.state.order = order;
        rows.push(row);
    }
    let mut peer = Peer::default();
    peer.tell(Event::Send(rows));
    for (id, outcome) in [
        ("c0", Ok(json(&1))),
        ("c1", Err(TaskError::new("full", "no seat"))),
    ] {
        let epoch = peer.claim(id);
        peer.tell(completed(id, epoch, outcome, ActionOptions::DEFAULT));
    }
    let rounds = ["c0", "c1", "c2"].map(|id| peer.task(id).round.code());
    assert_eq!(rounds, [1, 0, 0]);
}

/// Its row is told of twice, as one that ends and as one that is put back.
#[test]
fn a_cut_off_giving_back_is_no_second_end() {
    let mut peer = performer(1);
    peer.tell(received("m1", 1, A, MessageKind::Cancel("t".into())));
    peer.claim("t");
    peer.changes.log.clear();
    peer.tell(Event::Interrupted {
        id: "t".into(),
        owner: NODE,
        options: ActionOptions::DEFAULT,
    });
    let notes: Vec<_> = peer.changes.log.iter().map(|(_, _, note)| *note).collect();
    assert_eq!(notes, [crate::engine::TaskEvent::Again]);
    assert_eq!(peer.task("t").moment, Some(RunPhase::CancelReservation));
}

fn refuse(message: &str, from: PeerId, id: &str, round: i64) -> Event {
    let (task, round) = (id.into(), Some(round));
    received(message, 1, from, MessageKind::Refuse { task, round })
}

#[test]
fn a_reservation_that_stood_for_every_round_is_asked_for_again_once_it_is_lost() {
    let mut peer = group();
    // Its confirmation came without a round, as an original one's does.
    peer.tell(confirm("m1", A, "one", None));
    sent(&mut peer);
    assert_eq!(
        peer.tell(refuse("m2", A, "one", 1)),
        Answer::Accepted,
        "it knows rounds all the same"
    );
    let at = peer.task("group").wake_at.unwrap();
    peer.tell_at(Event::Wake("group".into()), at);
    assert_eq!(
        peer.task("group").phase,
        GroupPhase::Reserving { reserved: 0 }
    );
    peer.tell(confirm("m3", B, "two", Some(2)));
    assert!(!sent(&mut peer).contains(&"frestq.execute_synchronized".to_owned()));
    peer.tell(confirm("m4", A, "one", Some(2)));
    assert_eq!(sent(&mut peer), ["frestq.execute_synchronized"; 2]);
}

/// Contract rule 7: a tree always ends.
#[test]
fn a_group_that_can_not_be_satisfied_ends_some_day() {
    let mut peer = group();
    let mut rounds = 0;
    while !peer.task("group").status.is_terminal() {
        let at = peer.task("group").wake_at.unwrap();
        peer.tell_at(Event::Wake("group".into()), at);
        peer.changes.outgoing.clear();
        rounds = peer.task("group").round.code();
        assert!(rounds < 10_000);
    }
    assert!(rounds > 1000, "not without having tried: {rounds}");
    assert_eq!(peer.task("group").status, Status::Error);
    assert!(peer.output("group").contains("not reserved"));
    assert_eq!(peer.task("one").status, Status::Cancelled);
}

#[test]
fn a_reservation_that_the_director_can_not_take_ends_the_task_and_is_given_back() {
    let mut peer = performer(1);
    peer.changes.outgoing.clear();
    let why = "too large".into();
    let mut event = delivery("t", DeliveryOutcome::Refused { status: 413, why });
    if let Event::Delivery(delivery) = &mut event {
        let message = Arc::make_mut(&mut delivery.message);
        message.action = "frestq.confirm_task_reservation".into();
        message.carries_task = false;
    }
    peer.tell(event);
    assert_eq!(peer.task("t").status, Status::Error);
    assert_eq!(peer.task("t").moment, Some(RunPhase::CancelReservation));
    assert_eq!(sent(&mut peer), ["frestq.update_task"]);
}
