//! A task that is pinned to one certificate of its receiver.

use super::*;
use crate::model::Fingerprint;

fn certificate(name: &str) -> Fingerprint {
    Fingerprint::of(name.as_bytes())
}

/// The event, by a connection with this certificate.
fn shown_by(name: Option<&str>, event: Event) -> Event {
    match event {
        Event::Receive(mut received) => {
            received.certificate = name.map(certificate);
            Event::Receive(received)
        }
        other => other,
    }
}

fn pinned(name: &str) -> Peer {
    let mut peer = Peer::default();
    let mut task = new_task("t", Role::Sent, B);
    task.state.certificate = Some(certificate(name));
    peer.tell(Event::Send(vec![task]));
    peer
}

#[test]
fn every_message_about_a_pinned_task_has_its_pin() {
    let mut peer = pinned("b");
    peer.tell(delivery("t", DeliveryOutcome::Delivered));
    peer.tell(Event::Cancel {
        id: "t".into(),
        why: "enough".into(),
    });
    let pins: Vec<_> = peer.changes.outgoing.iter().map(|m| m.pin).collect();
    assert_eq!(pins, [Some(certificate("b")); 2]);
}

#[test]
fn another_certificate_of_the_receiver_is_answered_like_an_unknown_task() {
    let mut peer = pinned("b");
    let report = |message, id| update(message, B, id, Status::Finished, "done", None);
    for name in [None, Some("b2")] {
        let answer = peer.tell(shown_by(name, report("m", "t")));
        assert_eq!(answer, Answer::UnknownTask);
    }
    assert_eq!(peer.task("t").status, Status::Created);
    let answer = peer.tell(shown_by(Some("b"), report("m", "t")));
    assert_eq!(answer, Answer::Accepted);
    assert_eq!(peer.task("t").status, Status::Finished);
}

#[test]
fn a_reservation_counts_only_with_the_certificate_of_its_pin() {
    let mut peer = pinned("b");
    let confirm = |message| {
        let what = MessageKind::Confirm {
            task: "t".into(),
            reservation: json(&1),
            seconds: None,
            round: None,
        };
        received(message, 1, B, what)
    };
    for (name, answer) in [("b2", Answer::UnknownTask), ("b", Answer::Ignored)] {
        assert_eq!(peer.tell(shown_by(Some(name), confirm("m"))), answer);
    }
}

#[test]
fn the_certificate_of_a_sender_binds_neither_side() {
    let mut peer = Peer::default();
    let mut task = new_task("t", Role::Received, A);
    task.state.certificate = Some(certificate("a"));
    let asks = received("m", 1, A, MessageKind::Task(Box::new(task)));
    assert_eq!(peer.tell(asks), Answer::Accepted);
    // It may have another one by now.
    let off = received("n", 2, A, MessageKind::Cancel("t".into()));
    let answer = peer.tell(shown_by(Some("a2"), off));
    assert_eq!(answer, Answer::Accepted);
    assert_eq!(peer.task("t").status, Status::Cancelled);
    assert!(peer.changes.outgoing.iter().all(|m| m.pin.is_none()));
}
