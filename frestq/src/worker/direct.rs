//! Has the director of a synchronized group look at it.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;

use super::contain::panic_message;
use crate::{
    api::{
        director::{Group, Subtask},
        failure::task_error,
        peer::Frestq,
        registry::{Direct, Registration},
    },
    engine::{Done, Event},
    model::{RunPhase, TaskState, error::TaskError, null, statements::Transaction},
    store::Waiting,
};

/// Has a director look at its group.
pub(super) async fn oversee(
    peer: &Frestq,
    handler: &Registration,
    direct: Direct,
    group: TaskState,
) -> Event {
    let after_round = group.moment == Some(RunPhase::EndRound);
    let looked = async {
        let family = peer.services.store.family(&group.id).await;
        let family = family.map_err(|error| task_error(error.into()))?;
        let subtask = |task: Waiting| {
            let receiver = peer.services.peers.by_id(task.state.peer);
            Subtask {
                receiver: receiver.map_or_else(|| peer.url().clone(), |row| row.url.clone()),
                reserved: !after_round || task.state.round == group.round,
                id: task.state.id,
                queue: task.state.queue,
                action: task.state.action,
                input: task.input,
                reservation: task.reservation,
                changed: false,
            }
        };
        let subtasks = family.into_iter().map(subtask).collect();
        let round = group.round.number().unwrap_or_default();
        let seen = Group::new(peer.clone(), group.id.clone(), round, subtasks);
        let looked = AssertUnwindSafe(direct(seen, after_round))
            .catch_unwind()
            .await;
        looked.unwrap_or_else(|panic| {
            Err(TaskError::new(TaskError::PANICKED, panic_message(&*panic)))
        })
    };
    let outcome = looked.await.map(|inputs| {
        Box::new(Done {
            output: null(),
            parent_output: None,
            children: Vec::new(),
            inputs,
        })
    });
    Event::Completed {
        id: group.id,
        queue: group.queue,
        epoch: group.epoch,
        outcome,
        transaction: Transaction::default(),
        options: handler.info.options,
    }
}
