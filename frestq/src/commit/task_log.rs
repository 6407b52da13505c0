//! The task log: one line for each thing that happened to a task, once it is committed.

use super::claimed::ClaimedTask;
use crate::{
    engine::{BatchState, Changes, Delivery, DeliveryOutcome, TaskEvent},
    model::{Json, PeerId, Role, RunPhase, Status, TaskState, error::TaskError},
    peers::directory::PeerDirectory,
};

/// Log target for tasks.
const TASK: &str = "frestq::task";

/// Log target for messages.
const DELIVERY: &str = "frestq::delivery";

/// Logs what a transaction did; payloads only with `log_payloads`.
pub(super) fn write(
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
                tracing::info!(target: TASK, "task {id} output: {}", output.get());
            }
        }
    }
    for task in claimed {
        log_claim(&task.state);
        if payloads {
            tracing::info!(target: TASK, "task {} input: {}", task.state.id, task.input.get());
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

/// Logs what happened to a task.
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
            tracing::info!(target: TASK, "task {id} {action}: created for {peer}");
        }
        (TaskEvent::Created, _) => tracing::info!(
            target: TASK,
            "task {id} {action}: created to run here",
        ),
        (TaskEvent::Received, _) => tracing::info!(
            target: TASK,
            "task {id} {action}: received from {peer}",
        ),
        (TaskEvent::Again, _) => match task.run_at {
            Some(at) => tracing::info!(
                target: TASK,
                "task {id} {action}: run {} failed, next run at {at}",
                task.attempt,
            ),
            None => tracing::info!(
                target: TASK,
                "task {id} {action}: run {} was interrupted, the task runs again",
                task.attempt,
            ),
        },
        (TaskEvent::Kept, _) => tracing::warn!(
            target: TASK,
            "task {id} {action}: its reservation may not be released: \
             cancel_reservation was interrupted too often",
        ),
        (TaskEvent::Failing, _) => {
            tracing::info!(target: TASK, "task {id} {action}: failing, handle_error decides");
        }
        (TaskEvent::Updated, status) => {
            tracing::info!(target: TASK, "task {id} {action}: set to {status} by {peer}");
        }
        (TaskEvent::Changed, Status::Sent) => {
            tracing::info!(target: TASK, "task {id} {action}: acknowledged by {peer}");
        }
        (TaskEvent::Changed, Status::Finished) => tracing::info!(
            target: TASK,
            "task {id} {action}: finished",
        ),
        (TaskEvent::Changed, Status::Syncing) => tracing::info!(
            target: TASK,
            "task {id} {action}: round {} of reservations begins",
            task.round.number().unwrap_or_default(),
        ),
        (TaskEvent::Changed, status) => match output {
            Some(output) if status.is_terminal() => {
                let error = TaskError::from_output(output);
                tracing::warn!(target: TASK, "task {id} {action}: ended as {status}: {error}");
            }
            _ => tracing::info!(target: TASK, "task {id} {action}: {status}"),
        },
    }
}

/// Logs the start of a run.
fn log_claim(task: &TaskState) {
    let (id, attempt) = (&task.id, task.attempt);
    let action = format_args!("{}/{}", task.queue, task.action);
    match task.moment {
        Some(RunPhase::Reserve) => tracing::info!(target: TASK, "task {id} {action}: reserving"),
        Some(RunPhase::CancelReservation) => {
            tracing::info!(target: TASK, "task {id} {action}: releasing its reservation");
        }
        Some(RunPhase::PreExecute) => {
            tracing::info!(
                target: TASK,
                "task {id} {action}: all subtasks have reserved, pre_execute runs",
            );
        }
        Some(RunPhase::EndRound) => tracing::info!(
            target: TASK,
            "task {id} {action}: the round has failed",
        ),
        _ => tracing::info!(target: TASK, "task {id} {action}: running (attempt {attempt})"),
    }
}

/// Logs that a message was answered or given up.
fn log_delivery(delivery: &Delivery, peer: &str) {
    let (task, action) = (&delivery.message.task, &delivery.message.action);
    match &delivery.verdict {
        DeliveryOutcome::Delivered if !delivery.message.carries_task => {
            tracing::info!(target: DELIVERY, "task {task}: update sent to {peer}");
        }
        DeliveryOutcome::Delivered => {}
        DeliveryOutcome::Refused { status, why } => {
            tracing::warn!(
                target: DELIVERY,
                "task {task}: {peer} refused {action} with {status}: {why}",
            );
        }
        DeliveryOutcome::Later { at, why, .. } => {
            tracing::info!(
                target: DELIVERY,
                "task {task}: {action} not delivered to {peer}, next attempt from {at}: {why}",
            );
        }
        DeliveryOutcome::GivenUp { why } => {
            tracing::warn!(target: DELIVERY, "task {task}: {action} for {peer} given up: {why}");
        }
    }
}
