//! One run of a handler: from the claimed task to its completion.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

use super::{contain::outcome, direct::run_director};
use crate::{
    api::{
        context::{Sender, Start, Task},
        failure::task_error,
        peer::Frestq,
        registry::{Registration, Registry},
    },
    commit::ClaimedTask,
    engine::{Answer, Done, Event},
    model::{
        ActionOptions, Json, Role, RunPhase, Status, TaskId,
        draft::Draft,
        error::{Error, Result, TaskError},
        null,
        statements::Transaction,
    },
    services::plan::{Parent, plan},
};

/// Runs one handler and submits its completion. Rare steps are boxed to keep the future of a run
/// small.
pub(super) async fn run(peer: Frestq, registry: Arc<Registry>, claimed: ClaimedTask) {
    let (id, epoch) = (claimed.state.id.clone(), claimed.state.epoch);
    let queue = claimed.state.queue.clone();
    let reserves = claimed.state.moment == Some(RunPhase::Reserve);
    let reserving = reserves.then(|| (claimed.state.clone(), claimed.input.clone()));
    let completed = match registry.get(&queue, &claimed.state.action) {
        Some(handler) => handle(&peer, handler, claimed).await,
        None => {
            let action = &claimed.state.action;
            let known = peer.services.catalog.describe();
            tracing::error!(task = %id, "no handler for {queue}/{action}; {known}");
            let message = format!("the peer has no handler for {queue}/{action} any more");
            let unknown = TaskError::new(TaskError::UNKNOWN_ACTION, message);
            let outcome = Err(match &claimed.error {
                Some(error) => TaskError::from_output(error).and_then(unknown),
                None => unknown,
            });
            Event::Completed {
                id: id.clone(),
                queue,
                epoch,
                outcome,
                transaction: Transaction::default(),
                options: ActionOptions::DEFAULT,
            }
        }
    };
    let reserved = match (&completed, reserving) {
        (
            Event::Completed {
                outcome: Ok(done), ..
            },
            Some((state, input)),
        ) => Some((state, input, done.output.clone())),
        _ => None,
    };
    let accepted = report(&peer, completed).await;
    if let Some((mut state, input, reservation)) = reserved
        && !accepted
        && let Some(handler) = registry.get(&state.queue, &state.action)
        && !Box::pin(holds_reservation(&peer, &id, epoch)).await
    {
        // The task was cancelled during the run, and only this process knows the reservation.
        state.moment = Some(RunPhase::CancelReservation);
        let claimed = ClaimedTask {
            state,
            input,
            error: None,
            reservation,
            cancelled: None,
        };
        Box::pin(handle(&peer, handler, claimed)).await;
    }
    peer.services.notifier.runs.end(&id, epoch);
}

/// Whether a task holds the reservation made under this claim. It may although its completion was
/// not accepted: the answer to the commit may have been lost. It may not if another process has
/// reserved in its place.
async fn holds_reservation(peer: &Frestq, id: &TaskId, epoch: i64) -> bool {
    let rows = peer.services.store.stored(id).await.unwrap_or_default();
    let task = rows.into_iter().find(|task| task.state.id == *id);
    task.is_some_and(|task| match task.state.status {
        Status::Reserved | Status::Confirmed => task.state.epoch == epoch,
        // It runs in the slot that it held.
        Status::Executing => task.state.epoch == epoch + 1,
        _ => false,
    })
}

/// Calls the handler for the phase of the claimed task.
async fn handle(peer: &Frestq, handler: &Registration, claimed: ClaimedTask) -> Event {
    if let Some(direct) = handler.direct {
        return Box::pin(run_director(peer, handler, direct, claimed.state)).await;
    }
    let phase = claimed.state.moment;
    let (expires_at, trace) = (claimed.state.expires_at, claimed.state.trace.clone());
    let error = claimed.error.as_ref();
    let error = error.map(|error| TaskError::from_output(error));
    let task = task(peer, claimed);
    let returned = call(handler, &task, phase, error.as_ref()).await;
    let added = task.take_added();
    let transaction = added.transaction;
    let adds =
        !added.children.is_empty() || added.output.is_some() || added.parent_output.is_some();
    let outcome = match (phase, returned) {
        (Some(RunPhase::Execute), Ok(output)) => {
            let parent = Parent {
                id: task.id(),
                expires_at,
                trace: trace.as_ref(),
            };
            let output = added.output.unwrap_or(Ok(output));
            done(peer, parent, output, added.children, added.parent_output).await
        }
        (Some(RunPhase::HandleError), Ok(_)) if adds => {
            Err(TaskError::new(TaskError::FAILED, ONLY_EXECUTE))
        }
        (_, Ok(output)) => {
            if adds {
                // An error would lose the reservation.
                tracing::error!(
                    target: "frestq::task",
                    "task {} {}: {ONLY_EXECUTE}; the additions are ignored",
                    task.id(),
                    task.queue(),
                );
            }
            Ok(Box::new(Done {
                output,
                parent_output: None,
                children: Vec::new(),
                inputs: Vec::new(),
            }))
        }
        (Some(RunPhase::CancelReservation), Err(error)) => {
            tracing::error!(
                target: "frestq::task",
                "task {} {}: its cancel_reservation failed: {error}",
                task.id(),
                task.queue(),
            );
            Err(error)
        }
        (_, Err(error)) => Err(error),
    };
    // The task fails with the error that `handle_error` was called for.
    let outcome = outcome.map_err(|failed| match error {
        Some(error) => error.and_then(failed),
        None => failed,
    });
    Event::Completed {
        id: task.id().clone(),
        queue: task.queue().into(),
        epoch: task.epoch(),
        outcome,
        transaction,
        options: handler.info.options,
    }
}

/// The task as its handler sees it.
fn task(peer: &Frestq, claimed: ClaimedTask) -> Task {
    let ClaimedTask {
        state,
        input,
        reservation,
        cancelled,
        ..
    } = claimed;
    let sender = peer.services.peers.by_id(state.peer);
    let start = Start {
        id: state.id,
        queue: state.queue,
        action: state.action,
        sender: Sender {
            name: sender.as_ref().and_then(|row| row.name.clone()),
            url: sender.map_or_else(|| peer.url().clone(), |row| row.url.clone()),
            certificate: state.certificate.filter(|_| state.role == Role::Received),
        },
        attempt: state.attempt,
        epoch: state.epoch,
        input,
        trace: state.trace,
        parent: state.parent,
        order: state.order,
        reservation,
        cancelled: cancelled.unwrap_or_else(|| watch::channel(false).1),
    };
    Task::new(peer.clone(), start)
}

/// Calls the method of the phase.
async fn call(
    handler: &Registration,
    task: &Task,
    phase: Option<RunPhase>,
    error: Option<&TaskError>,
) -> Result<Json, TaskError> {
    let timeout = handler.info.options.timeout;
    match (phase, error) {
        (Some(RunPhase::Reserve), _) => match handler.reserve {
            Some(reserve) => outcome(reserve(task.clone()), timeout).await,
            None => Ok(null()),
        },
        (Some(RunPhase::CancelReservation), _) => match handler.cancel_reservation {
            Some(cancel) => outcome(cancel(task.clone()), timeout).await,
            None => Ok(null()),
        },
        (_, None) => outcome((handler.run)(task.clone()), timeout).await,
        (_, Some(error)) => match handler.handle_error {
            Some(handle_error) => outcome(handle_error(task.clone(), error.clone()), timeout)
                .await
                .and_then(|recovered| recovered.ok_or_else(|| error.clone())),
            None => Err(error.clone()),
        },
    }
}

/// The error for additions in a phase that can't store them.
const ONLY_EXECUTE: &str = "only execute may add subtasks or set outputs";

/// The result of `execute`, with the rows of the subtasks that it added.
async fn done(
    peer: &Frestq,
    parent: Parent<'_>,
    output: Result<Json>,
    children: Vec<Draft>,
    parent_output: Option<Result<Json>>,
) -> Result<Box<Done>, TaskError> {
    let failed = |error: Error| {
        task_error(
            anyhow::Error::new(error).context("the additions of the handler can't be stored"),
        )
    };
    let output = output.map_err(failed)?;
    let parent_output = parent_output.transpose().map_err(failed)?;
    let children = match children.is_empty() {
        true => Vec::new(),
        false => Box::pin(plan(&peer.services, children, Some(parent)))
            .await
            .map_err(failed)?,
    };
    Ok(Box::new(Done {
        output,
        parent_output,
        children,
        inputs: Vec::new(),
    }))
}

/// Submits a completion until it is committed, since it must not be lost while the process lives.
/// Returns `false` if the task no longer waits for it.
async fn report(peer: &Frestq, completed: Event) -> bool {
    let mut wait = Duration::from_millis(100);
    loop {
        match peer.services.commits.submit(vec![completed.clone()]).await {
            Ok(answers) => return answers.contains(&Answer::Accepted),
            Err(Error::Stopping) => return true,
            Err(error) => {
                tracing::error!(
                    target: "frestq::task",
                    error = %error.with_causes(),
                    "a completion could not be stored; trying again",
                );
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(Duration::from_secs(5));
            }
        }
    }
}
