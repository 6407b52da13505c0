//! A handler that says what becomes of the errors of its subtasks.

use super::{trees::WORK, *};

pub(super) const ASKED: ActionOptions = ActionOptions {
    handles_errors: true,
    ..ActionOptions::DEFAULT
};

/// A received task `t` whose handler left subtasks, `c0`, `c1` and so on, one after the other.
pub(super) fn parent_of(kinds: &[TaskKind]) -> Peer {
    let (mut peer, epoch) = receiver_that_runs_a_task();
    leave(&mut peer, epoch, kinds);
    peer
}

/// The handler of `t` leaves these subtasks.
fn leave(peer: &mut Peer, epoch: i64, kinds: &[TaskKind]) {
    let children = kinds.iter().zip(0..).map(|(kind, order)| {
        let mut child = trees::node(&format!("c{order}"), *kind, Some("t".into()), order);
        child.state.expires_at = Some(NOW + Duration::from_secs(1));
        child
    });
    peer.tell(left("t", epoch, children.collect(), ASKED));
}

fn cancelled(id: &str) -> Event {
    Event::Cancel {
        id: id.into(),
        why: "enough".into(),
    }
}

/// While the first one runs, another one is called off, or its time is over.
#[test]
fn a_subtask_that_ends_before_its_turn_is_asked_about_at_its_turn() {
    let late = NOW + Duration::from_secs(1);
    let ends = |id: &str| {
        [
            (cancelled(id), NOW, "enough"),
            (Event::Expire(id.into()), late, "expired"),
        ]
    };
    for which in 1..4 {
        let early = format!("c{which}");
        for (event, at, why) in ends(&early) {
            let mut peer = parent_of(&[WORK; 4]);
            peer.tell_at(event, at);
            assert!(!peer.waits("t"), "{early} comes only later");
            for n in 0..4 {
                let id = format!("c{n}");
                if n == which {
                    assert!(peer.waits("t"), "asked about {id}");
                    assert!(peer.output("t").contains(why), "{}", peer.output("t"));
                    peer.work("t", Ok("recovered"));
                } else {
                    assert!(!peer.waits("t"), "asked before {id}");
                    peer.work(&id, Ok("well"));
                }
            }
            assert_eq!(peer.status("t"), Status::Finished, "after {early}");
        }
    }
}

#[test]
fn every_subtask_starts_once_whichever_ends_before_its_turn() {
    let mut peer = parent_of(&[WORK, TaskKind::Simple, WORK, TaskKind::Simple]);
    peer.tell(cancelled("c2"));
    let sent = |peer: &Peer, id: &str| {
        let sent = peer.changes.outgoing.iter();
        sent.filter(|m| m.carries_task && m.task == TaskId::from(id))
            .count()
    };
    assert_eq!(sent(&peer, "c1"), 0, "c0 still runs");
    peer.work("c0", Ok("1"));
    assert_eq!((sent(&peer, "c1"), sent(&peer, "c3")), (1, 0));
    peer.tell(update("m1", B, "c1", Status::Finished, "2", None));
    peer.work("t", Ok("recovered"));
    assert_eq!((sent(&peer, "c1"), sent(&peer, "c3")), (1, 1));
    peer.tell(update("m2", B, "c3", Status::Finished, "4", None));
    assert_eq!(peer.status("t"), Status::Finished);
}

/// Without a handler that could recover there is nothing to wait for.
#[test]
fn a_sequence_ends_at_once_when_a_later_task_of_it_fails() {
    let tree = trees::Tree::rooted("group", WORK)
        .child("group", "a", WORK)
        .child("group", "b", WORK);
    let mut peer = Peer::plant(tree);
    peer.tell(cancelled("b"));
    assert_eq!(
        (peer.status("group"), peer.status("a")),
        (Status::Error, Status::Cancelled)
    );
}

/// Else many recoveries in one family would cost its size each.
#[test]
fn a_recovery_needs_the_next_subtask_only() {
    let mut peer = parent_of(&[WORK; 3]);
    peer.work("c0", Err("oops"));
    peer.world.families.clear();
    let next = ("t".into(), 1);
    peer.world.places.insert(next, Some("c1".into()));
    peer.work("t", Ok("recovered"));
    assert!(peer.waits("c1"));
    assert!(!peer.world.families.contains_key(&TaskId::from("t")));
}

/// A raw message has no sender that waits, but its handler may leave subtasks all the same.
#[test]
fn the_subtasks_of_a_raw_message_follow_one_another() {
    let mut task = new_task("t", Role::Received, A);
    task.state.kind = TaskKind::Message;
    let mut peer = Peer::default();
    peer.tell(received("m", 1, A, MessageKind::Task(Box::new(task))));
    let epoch = peer.claim("t");
    leave(&mut peer, epoch, &[WORK; 2]);
    peer.work("c0", Ok("1"));
    peer.work("c1", Ok("2"));
    assert_eq!(peer.status("t"), Status::Finished);
}
