//! What processes of one peer say to each other with `NOTIFY`.
//!
//! A payload is the sender's origin (16 characters), a letter, and a JSON list. Wake-ups are
//! hints: losing one costs time and never a task, so everything that is in doubt becomes
//! [`Wake::Everything`].

use std::collections::BTreeSet;

use serde::{Serialize, de::DeserializeOwned};

use crate::model::{PeerId, RunPhase, TaskId, TaskState};
use crate::store::{due::Wake, writes::Writes};

pub(super) const CHANNEL: &str = "frestq";
/// Postgres takes less than 8,000 bytes.
const LONGEST: usize = 7_900;

const QUEUES: char = 'q';
const PEERS: char = 'o';
const ENDED: char = 'e';
const MEMBERS: char = 'm';
const EVERYTHING: char = '*';

/// What the other processes should know of a change of the registered peers.
pub(super) fn members(origin: &str) -> String {
    format!("{origin}{MEMBERS}")
}

/// What the other processes should know of a transaction.
pub(super) fn notifications(origin: &str, writes: &Writes<'_>) -> Vec<String> {
    let (mut queues, mut ended) = (BTreeSet::new(), BTreeSet::new());
    let created = writes.created.iter().map(|(_, state, _)| *state);
    let changed = writes.changed.iter().map(|(state, _)| *state);
    for state in created.chain(changed) {
        if state.status.is_terminal() {
            ended.insert(state.id.as_str());
        }
        // One that has ended may have something to give back yet.
        if waits(state) {
            queues.insert(&*state.queue);
        }
    }
    let peers: BTreeSet<i64> = writes.outgoing.iter().map(|row| row.peer.0).collect();
    let mut payloads = Vec::new();
    pack(&mut payloads, origin, QUEUES, queues);
    pack(&mut payloads, origin, PEERS, peers);
    pack(&mut payloads, origin, ENDED, ended);
    payloads
}

/// Whether a task is one that a free slot could take, now or later.
fn waits(state: &TaskState) -> bool {
    let wanted = match state.status.is_terminal() {
        true => state.moment == Some(RunPhase::CancelReservation),
        false => state.moment.is_some(),
    };
    wanted && state.owner.is_none()
}

/// Fills as few payloads as there can be.
fn pack<T: Serialize>(
    payloads: &mut Vec<String>,
    origin: &str,
    kind: char,
    items: impl IntoIterator<Item = T>,
) {
    let mut open: Option<String> = None;
    for item in items {
        // Numbers and texts always serialize.
        let item = serde_json::to_string(&item).unwrap_or_default();
        if item.len() + origin.len() + 3 > LONGEST {
            payloads.push(format!("{origin}{EVERYTHING}"));
            continue;
        }
        match &mut open {
            Some(payload) if payload.len() + item.len() + 2 <= LONGEST => {
                payload.push(',');
                payload.push_str(&item);
            }
            _ => {
                let next = format!("{origin}{kind}[{item}");
                payloads.extend(open.replace(next).map(|full| full + "]"));
            }
        }
    }
    payloads.extend(open.map(|last| last + "]"));
}

/// Reads a payload; nothing if we sent it ourselves.
pub(super) fn unpack(origin: &str, payload: &str) -> Vec<Wake> {
    let Some((sender, rest)) = payload.split_at_checked(origin.len()) else {
        return vec![Wake::Everything];
    };
    if sender == origin {
        return Vec::new();
    }
    let mut letters = rest.chars();
    let kind = letters.next();
    let list = letters.as_str();
    match kind {
        Some(QUEUES) => each(list, Wake::Queue),
        Some(PEERS) => each(list, |peer| Wake::Outbox(PeerId(peer))),
        Some(MEMBERS) => vec![Wake::RegisteredPeers],
        Some(ENDED) => each(list, |id: String| Wake::Ended(TaskId::from(id))),
        // Also what a newer version may say.
        _ => vec![Wake::Everything],
    }
}

fn each<T: DeserializeOwned>(list: &str, wake: impl Fn(T) -> Wake) -> Vec<Wake> {
    match serde_json::from_str::<Vec<T>>(list) {
        Ok(items) => items.into_iter().map(wake).collect(),
        Err(_) => vec![Wake::Everything],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: &str = "0123456789abcdef";
    const OTHER: &str = "fedcba9876543210";

    #[test]
    fn long_lists_are_split_and_read_back() {
        let ids: Vec<String> = (0..1_000)
            .map(|n| format!("{n:05}-\u{1F41B}\"\0{}", "x".repeat(n % 120)))
            .collect();
        let mut payloads = Vec::new();
        pack(&mut payloads, ORIGIN, ENDED, &ids);
        assert!(payloads.iter().all(|payload| payload.len() < 8_000));
        assert!(
            payloads.len() < 20,
            "{} payloads, none of them full",
            payloads.len()
        );
        let read: Vec<Wake> = payloads.iter().flat_map(|p| unpack(OTHER, p)).collect();
        let sent: Vec<Wake> = ids.into_iter().map(|id| Wake::Ended(id.into())).collect();
        assert_eq!(read, sent);
    }

    #[test]
    fn a_process_ignores_its_own_words() {
        let mut payloads = Vec::new();
        pack(&mut payloads, ORIGIN, QUEUES, ["q"]);
        assert_eq!(unpack(ORIGIN, &payloads[0]), []);
        assert_eq!(unpack(OTHER, &payloads[0]), [Wake::Queue("q".into())]);
    }

    #[test]
    fn what_can_not_be_read_or_sent_wakes_everything() {
        let mut payloads = Vec::new();
        pack(&mut payloads, ORIGIN, QUEUES, ["q".repeat(9_000)]);
        for payload in [payloads[0].as_str(), "", "short", "0123456789abcdefq[1"] {
            assert_eq!(unpack(OTHER, payload), [Wake::Everything], "{payload}");
        }
    }
}
