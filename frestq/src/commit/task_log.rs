//! The log: what happened to each task, in words, once it is on disk.

use super::claimed::ClaimedTask;
use crate::{
    engine::{BatchState, Changes, Delivery, DeliveryOutcome, TaskEvent},
    model::{Json, PeerId, Role, RunPhase, Status, TaskState, error::TaskError},
    peers::directory::PeerDirectory,
};

/// Logs what a transaction did. Payloads are left out unless asked for.
pub(super) fn tell(
    peers: &PeerDirectory,
    state: &BatchState,
    changes: &Changes,
    claimed: &[ClaimedTask],
    payloads: bool,
) {
    if !tracing::enabled!(tracing::Level::INFO) {
        return;
    }
    for (id, status, event) in &changes.log {
        if let Some(Some(task)) = state.tasks.get(id) {
            let output = changes.outputs.get(id);
            log_event(task, (*event, *status), &address(peers, task.peer), output);
            if payloads && let Some(output) = output {
                tracing::info!("task {id} output: {}", output.get());
            }
        }
    }
    for task in claimed {
        log_claim(&task.state);
        if payloads {
            tracing::info!("task {} input: {}", task.state.id, task.input.get());
        }
    }
    for delivery in &changes.deliveries {
        log_delivery(delivery, &address(peers, delivery.message.peer));
    }
}

fn address(peers: &PeerDirectory, id: PeerId) -> String {
    let peer = peers.by_id(id);
    peer.map_or_else(|| "?".to_owned(), |peer| peer.url.to_string())
}

/// What happened to a task.
fn log_event(
    task: &TaskState,
    (event, status): (TaskEvent, Status),
    peer: &str,
    output: Option<&Json>,
) {
    let id = &task.id;
    let action = format_args!("{}/{}", task.queue, task.action);
    match (event, status) {
        (TaskEvent::Created, _) if task.role == Role::Sent => {
            tracing::info!("task {id} {action}: created for {peer}");
        }
        (TaskEvent::Created, _) => tracing::info!("task {id} {action}: created to run here"),
        (TaskEvent::Received, _) => tracing::info!("task {id} {action}: received from {peer}"),
        (TaskEvent::Again, _) => match task.run_at {
            Some(at) => tracing::info!(
                "task {id} {action}: run {} failed, next run at {at}",
                task.attempt
            ),
            None => tracing::info!(
                "task {id} {action}: run {} was interrupted, it runs again",
                task.attempt
            ),
        },
        (TaskEvent::Kept, _) => tracing::warn!(
            "task {id} {action}: its reservation may not be released: cancel_reservation was interrupted too often"
        ),
        (TaskEvent::Failing, _) => {
            tracing::info!("task {id} {action}: failing, its handle_error decides");
        }
        (TaskEvent::Updated, status) => {
            tracing::info!("task {id} {action}: set to {status} by {peer}");
        }
        (TaskEvent::Changed, Status::Sent) => {
            tracing::info!("task {id} {action}: acknowledged by {peer}");
        }
        (TaskEvent::Changed, Status::Finished) => tracing::info!("task {id} {action}: finished"),
        (TaskEvent::Changed, Status::Syncing) => tracing::info!(
            "task {id} {action}: round {} of reservations begins",
            task.round.number().unwrap_or_default()
        ),
        (TaskEvent::Changed, status) => match output {
            Some(output) if status.is_terminal() => {
                let error = TaskError::from_output(output);
                tracing::warn!("task {id} {action}: ended as {status}: {error}");
            }
            _ => tracing::info!("task {id} {action}: {status}"),
        },
    }
}

/// A run begins.
fn log_claim(task: &TaskState) {
    let (id, attempt) = (&task.id, task.attempt);
    let action = format_args!("{}/{}", task.queue, task.action);
    match task.moment {
        Some(RunPhase::Reserve) => tracing::info!("task {id} {action}: reserving"),
        Some(RunPhase::CancelReservation) => {
            tracing::info!("task {id} {action}: releasing its reservation");
        }
        Some(RunPhase::PreExecute) => {
            tracing::info!("task {id} {action}: all have reserved, pre_execute runs");
        }
        Some(RunPhase::EndRound) => tracing::info!("task {id} {action}: the round has failed"),
        _ => tracing::info!("task {id} {action}: running (attempt {attempt})"),
    }
}

/// A message was answered, or given up.
fn log_delivery(delivery: &Delivery, peer: &str) {
    let (task, action) = (&delivery.message.task, &delivery.message.action);
    match &delivery.verdict {
        DeliveryOutcome::Delivered if !delivery.message.carries_task => {
            tracing::info!("task {task}: update sent to {peer}");
        }
        DeliveryOutcome::Delivered => {}
        DeliveryOutcome::Refused { status, why } => {
            tracing::warn!("task {task}: {peer} refused {action} with {status}: {why}");
        }
        DeliveryOutcome::Later { at, why, .. } => {
            tracing::info!(
                "task {task}: {action} not delivered to {peer}, next attempt from {at}: {why}"
            );
        }
        DeliveryOutcome::GivenUp { why } => {
            tracing::warn!("task {task}: {action} for {peer} given up: {why}");
        }
    }
}
