//! What a task has reserved is used once or given back once, whatever cuts in.

use super::{
    synchronized::{performer, start},
    *,
};
use crate::model::RunPhase;

fn interrupted(options: ActionOptions) -> Event {
    Event::Interrupted {
        id: "t".into(),
        owner: NODE,
        options,
    }
}

fn calls_off(message: &str) -> Event {
    received(message, 1, A, MessageKind::Cancel("t".into()))
}

/// A performer whose reservation was not wanted in time; it runs its `cancel_reservation`.
fn giving_back() -> (Peer, i64) {
    let mut peer = performer(1);
    let at = peer.task("t").wake_at.unwrap();
    peer.tell_at(Event::Wake("t".into()), at);
    let epoch = peer.claim("t");
    (peer, epoch)
}

/// Whether it hears that it shall start before it has given back, or after.
#[test]
fn a_task_that_starts_late_starts_without_what_it_gave_back() {
    for early in [true, false] {
        let (mut peer, epoch) = giving_back();
        let starts = start("m1", A, 1);
        let gives_back = completed("t", epoch, Ok(json(&0)), ActionOptions::DEFAULT);
        let events = match early {
            true => [starts, gives_back],
            false => [gives_back, starts],
        };
        for event in events {
            assert_eq!(peer.tell(event), Answer::Accepted);
        }
        assert_eq!(peer.task("t").moment, Some(RunPhase::Execute));
        let reservation = &peer.changes.reservations[&TaskId::from("t")];
        assert_eq!(reservation.get(), "null");
    }
}

/// It may look at what a failed round has given back.
#[test]
fn a_director_still_sees_what_was_given_back() {
    let (mut peer, epoch) = giving_back();
    peer.tell(completed("t", epoch, Ok(json(&0)), ActionOptions::DEFAULT));
    let reservation = &peer.changes.reservations[&TaskId::from("t")];
    assert_eq!(reservation.get(), "7");
}

#[test]
fn a_task_that_ends_while_it_gives_back_has_given_back_once_that_ends() {
    let (mut peer, epoch) = giving_back();
    peer.tell(calls_off("m1"));
    assert_eq!(peer.task("t").status, Status::Cancelled);
    let done = completed("t", epoch, Ok(json(&0)), ActionOptions::DEFAULT);
    assert_eq!(peer.tell(done), Answer::Accepted);
    let task = peer.task("t");
    assert_eq!(
        (task.status, task.moment, task.owner),
        (Status::Cancelled, None, None)
    );
}

#[test]
fn a_task_that_ends_while_it_gives_back_gives_back_again_if_that_is_cut_off() {
    let (mut peer, _) = giving_back();
    peer.tell(calls_off("m1"));
    peer.tell(interrupted(ActionOptions::DEFAULT));
    let task = peer.task("t");
    assert_eq!(
        (task.status, task.moment),
        (Status::Cancelled, Some(RunPhase::CancelReservation))
    );
    assert!(super::super::runs_now(task, NOW));
}

/// The run may not even have begun when its process died.
#[test]
fn what_a_cut_off_run_had_reserved_is_given_back_when_there_is_no_other_run() {
    let once = ActionOptions {
        at_most_once: true,
        ..ActionOptions::DEFAULT
    };
    let last = ActionOptions {
        max_attempts: 1,
        ..ActionOptions::DEFAULT
    };
    for (options, end) in [
        (ActionOptions::DEFAULT, Status::Cancelled),
        (once, Status::Error),
        (last, Status::Error),
    ] {
        let mut peer = performer(1);
        peer.tell(start("m1", A, 1));
        peer.claim("t");
        peer.tell(interrupted(options));
        peer.tell(calls_off("m2"));
        let task = peer.task("t");
        assert_eq!(
            (task.status, task.moment),
            (end, Some(RunPhase::CancelReservation)),
            "{options:?}"
        );
    }
}

#[test]
fn what_a_run_had_reserved_is_its_own_to_give_back() {
    let failed = || Err(TaskError::new("failed", "no"));
    for outcome in [Ok(json(&1)), failed()] {
        let mut peer = performer(1);
        peer.tell(start("m1", A, 1));
        let epoch = peer.claim("t");
        peer.tell(completed("t", epoch, outcome, ActionOptions::DEFAULT));
        assert_eq!(peer.task("t").moment, None);
    }
    // Called off in the middle: it is told, and ends by itself.
    let mut peer = performer(1);
    peer.tell(start("m1", A, 1));
    peer.claim("t");
    peer.tell(calls_off("m2"));
    assert_eq!(peer.task("t").moment, None);
}

/// A group of our own tasks `c0` and `c1` that have reserved, so that its director is wanted.
pub(super) fn directed() -> Peer {
    let mut root = new_task("group", Role::Local, PeerId::SELF);
    root.state.kind = TaskKind::Synchronized;
    root.state.queue = "directors".into();
    root.state.open_children = 2;
    let mut rows = vec![root];
    for order in 0..2 {
        let mut row = new_task(&format!("c{order}"), Role::Local, PeerId::SELF);
        row.state.parent = Some("group".into());
        row.state.order = order;
        rows.push(row);
    }
    let mut peer = Peer::default();
    peer.tell(Event::Send(rows));
    for id in ["c0", "c1"] {
        let epoch = peer.claim(id);
        peer.tell(completed(id, epoch, Ok(json(&7)), ActionOptions::DEFAULT));
    }
    assert_eq!(peer.task("group").moment, Some(RunPhase::PreExecute));
    peer
}

#[test]
fn none_starts_if_a_reservation_was_over_before_the_director_was_done() {
    let mut peer = directed();
    let epoch = peer.claim("group");
    let at = peer.task("c1").wake_at.unwrap();
    peer.tell_at(Event::Wake("c1".into()), at);
    let done = completed("group", epoch, Ok(json(&0)), ActionOptions::DEFAULT);
    assert_eq!(peer.tell_at(done, at), Answer::Accepted);
    assert_eq!(peer.task("group").status, Status::Syncing);
    assert_eq!(peer.task("group").moment, Some(RunPhase::EndRound));
    for id in ["c0", "c1"] {
        assert_eq!(peer.task(id).moment, Some(RunPhase::CancelReservation));
    }
}

#[test]
fn a_director_is_not_asked_about_a_round_that_is_over() {
    let mut peer = directed();
    let at = peer.task("c1").wake_at.unwrap();
    peer.tell_at(Event::Wake("c1".into()), at);
    assert_eq!(peer.task("group").moment, Some(RunPhase::EndRound));
    assert_eq!(peer.task("c0").moment, Some(RunPhase::CancelReservation));
}
