//! What a task has reserved is used once or given back once, whatever cuts in.

use super::{
    synchronized::{performer, start},
    *,
};
use crate::model::Moment;

/// A performer whose reservation was not wanted in time; it runs its `cancel_reservation`.
fn giving_back() -> (Peer, i64) {
    let mut peer = performer(1);
    let at = peer.task("t").wake_at.unwrap();
    peer.tell_at(Event::Wake("t".into()), at);
    let epoch = peer.claim("t");
    (peer, epoch)
}

#[test]
fn a_task_that_starts_late_starts_without_what_it_gave_back() {
    let (mut peer, epoch) = giving_back();
    peer.tell(start("m1", A, 1));
    peer.tell(completed("t", epoch, Ok(json(&0)), ActionOptions::DEFAULT));
    assert_eq!(peer.task("t").moment, Some(Moment::Execute));
    let reservation = &peer.changes.reservations[&TaskId::from("t")];
    assert_eq!(reservation.get(), "null");
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
    assert_eq!(peer.task("group").moment, Some(Moment::PreExecute));
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
    assert_eq!(peer.task("group").moment, Some(Moment::EndRound));
    for id in ["c0", "c1"] {
        assert_eq!(peer.task(id).moment, Some(Moment::CancelReservation));
    }
}

#[test]
fn a_director_is_not_asked_about_a_round_that_is_over() {
    let mut peer = directed();
    let at = peer.task("c1").wake_at.unwrap();
    peer.tell_at(Event::Wake("c1".into()), at);
    assert_eq!(peer.task("group").moment, Some(Moment::EndRound));
    assert_eq!(peer.task("c0").moment, Some(Moment::CancelReservation));
}
