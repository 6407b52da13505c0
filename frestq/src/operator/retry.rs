//! Retries a failed task as a new one.
//!
//! A task that has ended never changes, and other peers may know of its end, so nothing is
//! undone. A copy is planned with new ids: the root with its payload, and the children that a
//! group created itself. Children that a handler added are not copied, since the handler adds
//! them again when it runs.

use std::collections::HashMap;

use jiff::Timestamp;

use crate::{
    model::{
        NewTask, OnFailure, PeerId, Role, Status, TaskId, TaskKind, TaskState,
        catalog::Catalog,
        error::{Error, Result},
    },
    store::Store,
};

/// The rows of a failed task's copy, the root first, with the id `fresh`.
///
/// # Errors
///
/// [`Error::UnknownTask`]; [`Error::Pruned`]; [`Error::Invalid`] with the reason why this task
/// can't be retried.
pub(crate) async fn copy(
    store: &Store,
    catalog: &Catalog,
    id: &TaskId,
    fresh: &TaskId,
    now: Timestamp,
) -> Result<Vec<NewTask>> {
    let tree = store.stored(id).await?;
    // Read after the rows: a record that exists now existed then.
    let record = store.task(id).await?;
    record
        .ok_or_else(|| Error::UnknownTask(id.clone()))?
        .unless_pruned()?;
    let root = tree
        .iter()
        .find(|task| task.state.id == *id)
        .ok_or_else(|| Error::UnknownTask(id.clone()))?;
    if root.state.parent.is_some() {
        let top = store.root(id).await?;
        let top = top.map_or_else(|| "its root".to_owned(), |top| format!("{}", top.id));
        return Err(Error::Invalid(format!(
            "task {id} is part of a tree that went on without it; retry the whole tree, task {top}"
        )));
    }
    if root.state.role == Role::Received {
        let peers = store.peers().await?;
        let sender = peers.iter().find(|peer| peer.id == root.state.peer);
        let sender = sender.map_or("its sender", |peer| peer.url.as_str());
        return Err(Error::Invalid(format!(
            "task {id} was received from {sender}, which knows that it has ended; retry it there"
        )));
    }
    match root.state.status {
        Status::Finished => {
            return Err(Error::Invalid(format!(
                "task {id} has not failed: it is finished"
            )));
        }
        status if !status.is_terminal() => {
            return Err(Error::Invalid(format!(
                "task {id} has not failed: it is {status}"
            )));
        }
        _ => {}
    }
    let copy = renewed(&tree, id, fresh, now);
    for task in &copy {
        let TaskState {
            role,
            peer,
            queue,
            action,
            ..
        } = &task.state;
        let runs_here = *role == Role::Local && *peer == PeerId::SELF && !queue.is_empty();
        if runs_here && catalog.get(queue, action).is_none() {
            return Err(Error::Invalid(format!(
                "this peer no longer has the action {queue}/{action}; {}",
                catalog.describe()
            )));
        }
    }
    Ok(copy)
}

/// The copy of a tree. A parent's row comes before those of its children.
fn renewed(tree: &[NewTask], id: &TaskId, fresh: &TaskId, now: Timestamp) -> Vec<NewTask> {
    let mut ids: HashMap<&TaskId, TaskId> = HashMap::new();
    // The groups whose children are copied, with their index in `copies`.
    let mut groups: HashMap<&TaskId, usize> = HashMap::new();
    let mut copies: Vec<NewTask> = Vec::new();
    for old in tree {
        let parent = match &old.state.parent {
            _ if old.state.id == *id => None,
            Some(parent) => match groups.get(parent) {
                Some(group) => {
                    copies[*group].state.open_children += 1;
                    ids.get(parent).cloned()
                }
                None => continue,
            },
            None => continue,
        };
        let new = match parent {
            None => fresh.clone(),
            Some(_) => TaskId::generate(),
        };
        ids.insert(&old.state.id, new.clone());
        // A synchronized group has the queue of its director.
        let is_group = old.state.queue.is_empty() || old.state.kind == TaskKind::Synchronized;
        if is_group {
            groups.insert(&old.state.id, copies.len());
        }
        copies.push(NewTask {
            // What the run has left behind starts anew.
            state: TaskState {
                id: new,
                kind: old.state.kind,
                role: old.state.role,
                peer: old.state.peer,
                certificate: old.state.certificate,
                queue: old.state.queue.clone(),
                action: old.state.action.clone(),
                trace: old.state.trace.clone(),
                parent,
                order: old.state.order,
                on_failure: match is_group {
                    true => old.state.on_failure,
                    // Set again by the handler's run.
                    false => OnFailure::End,
                },
                at_most_once: old.state.at_most_once,
                // A date in the past would end the copy at once.
                expires_at: old.state.expires_at.filter(|at| *at > now),
                ..TaskState::new(now)
            },
            pingback_at: old.pingback_at.filter(|at| *at > now),
            created_at: now,
            unique_key: old.unique_key.clone().filter(|_| old.state.id == *id),
            ..old.clone()
        });
    }
    copies
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{GroupPhase, RoundMark, null};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn task(id: &str, parent: Option<&str>, order: i64, queue: &str) -> NewTask {
        NewTask {
            state: TaskState {
                seq: order + 1,
                id: id.into(),
                kind: TaskKind::Sequential,
                role: Role::Local,
                peer: PeerId::SELF,
                certificate: None,
                queue: queue.into(),
                action: "act".into(),
                trace: Some("request 7".into()),
                status: Status::Error,
                parent: parent.map(TaskId::from),
                order,
                place: 0,
                open_children: 0,
                on_failure: OnFailure::AskHandler,
                at_most_once: false,
                moment: None,
                attempt: 3,
                failures: 2,
                interrupted: 1,
                epoch: 4,
                owner: None,
                rev: 5,
                round: RoundMark::None,
                phase: GroupPhase::default(),
                holds_reservation: false,
                wake_at: None,
                report_at: None,
                run_at: None,
                expires_at: Some(at(100)),
                modified_at: at(50),
            },
            input: null(),
            label: Some("mine".into()),
            info: None,
            pingback_at: None,
            priority: 0,
            unique_key: None,
            created_at: at(1),
        }
    }

    #[test]
    fn a_copy_starts_over_with_the_content_of_the_failed_task() {
        let copies = renewed(
            &[task("old", None, 0, "q")],
            &"old".into(),
            &"new".into(),
            at(60),
        );
        let [copy] = &copies[..] else {
            panic!("{copies:?}")
        };
        let state = &copy.state;
        assert_eq!((state.id.as_str(), state.status), ("new", Status::Created));
        assert_eq!(
            (state.attempt, state.failures, state.rev, state.seq),
            (0, 0, 0, 0)
        );
        assert_eq!((state.expires_at, copy.created_at), (Some(at(100)), at(60)));
        assert_eq!(state.on_failure, OnFailure::End);
        assert_eq!(state.trace.as_deref(), Some("request 7"));
        assert_eq!((copy.label.as_deref(), &*state.queue), (Some("mine"), "q"));
    }

    #[test]
    fn an_expiration_date_in_the_past_is_dropped() {
        let tree = [task("old", None, 0, "q")];
        let copies = renewed(&tree, &"old".into(), &"new".into(), at(100));
        assert_eq!(copies[0].state.expires_at, None);
    }

    #[test]
    fn the_children_of_groups_are_copied_and_those_of_handlers_are_not() {
        let tree = [
            task("root", None, 0, ""),
            task("first", Some("root"), 0, "q"),
            task("group", Some("root"), 1, ""),
            task("added", Some("first"), 0, "q"),
            task("inner", Some("group"), 0, "q"),
            task("below-added", Some("added"), 0, "q"),
        ];
        let copies = renewed(&tree, &"root".into(), &"new".into(), at(60));
        let shape: Vec<_> = copies
            .iter()
            .map(|copy| (copy.state.order, copy.state.open_children))
            .collect();
        assert_eq!(shape, [(0, 2), (0, 0), (1, 1), (0, 0)]);
        let parents: Vec<_> = copies
            .iter()
            .map(|copy| copy.state.parent.clone())
            .collect();
        let id = |index: usize| Some(copies[index].state.id.clone());
        assert_eq!(parents, [None, id(0), id(0), id(2)]);
        assert_eq!(copies[0].state.on_failure, OnFailure::AskHandler);
    }
}
