//! Runs the director of a synchronized group.

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

/// Calls a director: before the start of its group, or after a failed round.
pub(super) async fn run_director(
    peer: &Frestq,
    handler: &Registration,
    direct: Direct,
    group: TaskState,
) -> Event {
    let after_round = group.moment == Some(RunPhase::EndRound);
    let result = async {
        let children = peer.services.store.family(&group.id).await;
        let children = children.map_err(|error| task_error(error.into()))?;
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
        let subtasks = children.into_iter().map(subtask).collect();
        let round = group.round.number().unwrap_or_default();
        let view = Group::new(peer.clone(), group.id.clone(), round, subtasks);
        let result = AssertUnwindSafe(direct(view, after_round))
            .catch_unwind()
            .await;
        result.unwrap_or_else(|panic| {
            Err(TaskError::new(TaskError::PANICKED, panic_message(&*panic)))
        })
    };
    let outcome = result.await.map(|inputs| {
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
