//! Runs that are cut off again and again: no moment of a task is repeated for ever.

use super::{
    recovery::{ASKED, parent_of},
    reservations::directed,
    synchronized::performer,
    trees::WORK,
    *,
};
use crate::model::{RoundMark, RunPhase};

const TWICE: ActionOptions = ActionOptions {
    max_attempts: 2,
    ..ASKED
};

/// Starts a run that is cut off, twice.
fn interrupt(peer: &mut Peer, id: &str) {
    for _ in 0..2 {
        assert!(super::super::runs_now(peer.task(id), NOW), "{id} waits");
        peer.claim(id);
        peer.tell(Event::Interrupted {
            id: id.into(),
            owner: NODE,
            options: TWICE,
        });
    }
}

#[test]
fn a_reservation_that_is_cut_off_too_often_ends_its_task() {
    let mut peer = Peer::default();
    let mut task = new_task("t", Role::Received, A);
    task.state.round = RoundMark::Round(1);
    peer.tell(received(
        "m",
        1,
        A,
        MessageKind::Synchronize(Box::new(task)),
    ));
    interrupt(&mut peer, "t");
    assert_eq!(peer.task("t").status, Status::Error);
    assert!(peer.output("t").contains("interrupted"));
}

#[test]
fn a_director_that_is_cut_off_too_often_ends_its_group() {
    let mut peer = directed();
    interrupt(&mut peer, "group");
    assert_eq!(peer.task("group").status, Status::Error);
    for id in ["c0", "c1"] {
        assert_eq!(peer.task(id).moment, Some(RunPhase::CancelReservation));
    }
}

#[test]
fn an_error_about_which_the_handler_is_asked_in_vain_stands() {
    let mut peer = parent_of(&[WORK; 2]);
    peer.work("c0", Err("oops"));
    interrupt(&mut peer, "t");
    assert_eq!(
        (peer.status("t"), peer.status("c1")),
        (Status::Error, Status::Cancelled)
    );
    assert!(peer.output("t").contains("oops"), "{}", peer.output("t"));
}

#[test]
fn what_can_not_be_given_back_does_not_keep_its_task_for_ever() {
    let mut peer = performer(1);
    peer.tell(received("m1", 1, A, MessageKind::Cancel("t".into())));
    interrupt(&mut peer, "t");
    let task = peer.task("t");
    assert_eq!((task.status, task.moment), (Status::Cancelled, None));
}

/// Who takes it over may have no such handler.
#[test]
fn the_row_of_a_task_remembers_that_it_runs_at_most_once() {
    let mut peer = Peer::default();
    let mut task = new_task("t", Role::Received, A);
    task.state.at_most_once = true;
    peer.tell(received("m", 1, A, MessageKind::Task(Box::new(task))));
    peer.claim("t");
    peer.tell(Event::Interrupted {
        id: "t".into(),
        owner: NODE,
        options: ActionOptions::DEFAULT,
    });
    assert_eq!(peer.task("t").status, Status::Error);
    assert!(peer.output("t").contains("at most once"));
}

/// A deployment that restarts often is no fault of the handler's.
#[test]
fn a_run_that_ended_by_itself_makes_up_for_those_that_were_cut_off() {
    let mut peer = parent_of(&[WORK; 3]);
    for id in ["c0", "c1", "c2"] {
        peer.work(id, Err("oops"));
        peer.claim("t");
        peer.tell(Event::Interrupted {
            id: "t".into(),
            owner: NODE,
            options: TWICE,
        });
        peer.work("t", Ok("recovered"));
    }
    assert_eq!(peer.status("t"), Status::Finished);
}
