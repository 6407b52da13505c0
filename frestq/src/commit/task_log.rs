//! The log: what happened to each task, in words, once it is on disk.

use super::committer::ClaimedTask;
use crate::{
    engine::{BatchState, Changes, DeliveryOutcome, TaskEvent},
    model::{PeerId, Role, RunPhase, Status},
    peers::directory::PeerDirectory,
};

/// Tells what a transaction did. Payloads are left out unless asked for.
pub(super) fn tell(
    peers: &PeerDirectory,
    world: &BatchState,
    changes: &Changes,
    claimed: &[ClaimedTask],
    payloads: bool,
) {
    if !tracing::enabled!(tracing::Level::INFO) {
        return;
    }
    let name = |id: PeerId| {
        peers
            .by_id(id)
            .map_or_else(|| "?".to_owned(), |peer| peer.url.to_string())
    };
    for (id, status, note) in &changes.story {
        let Some(Some(task)) = world.tasks.get(id) else {
            continue;
        };
        let action = format_args!("{}/{}", task.queue, task.action);
        let peer = name(task.peer);
        match (note, *status) {
            (TaskEvent::Created, _) if task.role == Role::Sent => {
                tracing::info!("task {id} {action}: created for {peer}")
            }
            (TaskEvent::Created, _) => tracing::info!("task {id} {action}: created to run here"),
            (TaskEvent::Received, _) => tracing::info!("task {id} {action}: received from {peer}"),
            (TaskEvent::Again, _) => match task.run_at {
                Some(at) => tracing::info!(
                    "task {id} {action}: run {} did not succeed, again at {at}",
                    task.attempt
                ),
                None => tracing::info!(
                    "task {id} {action}: run {} was cut off, again",
                    task.attempt
                ),
            },
            (TaskEvent::Kept, _) => tracing::warn!(
                "task {id} {action}: what it has reserved may not be given back, since that was cut off too often"
            ),
            (TaskEvent::Failing, _) => {
                tracing::info!("task {id} {action}: failing, its handler is asked what to do");
            }
            (TaskEvent::Updated, status) => {
                tracing::info!("task {id} {action}: set to {status} by {peer}")
            }
            (TaskEvent::Changed, Status::Sent) => {
                tracing::info!("task {id} {action}: acknowledged by {peer}")
            }
            (TaskEvent::Changed, Status::Finished) => {
                tracing::info!("task {id} {action}: finished")
            }
            (TaskEvent::Changed, Status::Syncing) => {
                tracing::info!(
                    "task {id} {action}: round {} of reservations begins",
                    task.round
                );
            }
            (TaskEvent::Changed, status) => match changes.outputs.get(id) {
                Some(output) if status.is_terminal() => {
                    let error = crate::TaskError::from_output(output);
                    tracing::warn!("task {id} {action}: ended as {status}: {error}");
                }
                _ => tracing::info!("task {id} {action}: {status}"),
            },
        }
        if payloads && let Some(output) = changes.outputs.get(id) {
            tracing::info!("task {id} output: {}", output.get());
        }
    }
    for ClaimedTask { state, input, .. } in claimed {
        let (id, attempt) = (&state.id, state.attempt);
        let action = format_args!("{}/{}", state.queue, state.action);
        match state.moment {
            Some(RunPhase::Reserve) => tracing::info!("task {id} {action}: reserving"),
            Some(RunPhase::CancelReservation) => {
                tracing::info!("task {id} {action}: giving back what it reserved");
            }
            Some(RunPhase::PreExecute) => {
                tracing::info!("task {id} {action}: all have reserved, its director looks at them");
            }
            Some(RunPhase::EndRound) => tracing::info!("task {id} {action}: the round has failed"),
            _ => tracing::info!("task {id} {action}: running (attempt {attempt})"),
        }
        if payloads {
            tracing::info!("task {id} input: {}", input.get());
        }
    }
    for delivery in &changes.deliveries {
        let (message, peer) = (&delivery.message, name(delivery.message.peer));
        match &delivery.verdict {
            DeliveryOutcome::Delivered if !message.carries_task => {
                tracing::info!("task {}: update sent to {peer}", message.task)
            }
            DeliveryOutcome::Delivered => {}
            DeliveryOutcome::Refused { status, why } => {
                tracing::warn!(
                    "task {}: {peer} refused {} with {status}: {why}",
                    message.task,
                    message.action
                );
            }
            DeliveryOutcome::Later { at, why, .. } => {
                tracing::info!(
                    "task {}: {} not delivered to {peer}, again from {at}: {why}",
                    message.task,
                    message.action
                );
            }
            DeliveryOutcome::GivenUp { why } => {
                tracing::warn!(
                    "task {}: {} for {peer} given up: {why}",
                    message.task,
                    message.action
                );
            }
        }
    }
}
