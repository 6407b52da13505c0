//! Runs handlers, in a runtime of their own: one that panics or blocks its thread holds up neither
//! the acknowledging of messages nor the leases.

use std::{any::Any, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt;
use tokio::{
    runtime::Runtime,
    sync::{mpsc, watch},
    task::JoinHandle,
};

use crate::{
    commit::Claimed,
    compose::Draft,
    context::{Added, Sender, Start, Task},
    director::{Group, Subtask},
    engine::{Answer, Done, Event},
    error::{Error, Result, TaskError},
    model::{ActionOptions, Json, Moment, NodeId, Role, Status, TaskId, TaskState, null},
    peer::Frestq,
    planting::{Parent, plant},
    registry::{Direct, Registration},
    store::Waiting,
    transaction::Transaction,
};

/// The handlers that run.
pub(crate) struct Worker {
    runtime: Option<Runtime>,
    running: Arc<watch::Sender<usize>>,
    /// Ends with the last claim.
    starting: JoinHandle<()>,
}

impl Worker {
    /// Runs whatever is claimed.
    pub(crate) fn start(
        peer: Frestq,
        threads: usize,
        claimed: mpsc::UnboundedReceiver<Claimed>,
    ) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("frestq-handler")
            .enable_all()
            .build()
            .map_err(|source| Error::Io {
                what: "starting the threads that run handlers".into(),
                source,
            })?;
        let running = Arc::new(watch::Sender::new(0));
        let count = running.clone();
        let starting = spawn_each(&runtime, claimed, move |task| {
            count.send_modify(|running| *running += 1);
            let (peer, count) = (peer.clone(), count.clone());
            async move {
                run(peer, task).await;
                count.send_modify(|running| *running -= 1);
            }
        });
        Ok(Self {
            runtime: Some(runtime),
            running,
            starting,
        })
    }

    /// Waits until the committer claims no more and nothing runs; `false` if the time is up first.
    pub(crate) async fn drain(&mut self, longest: Duration) -> bool {
        let mut running = self.running.subscribe();
        let starting = &mut self.starting;
        let drained = async {
            // What is claimed and not yet started counts too. It ends in no other way.
            let _ = starting.await;
            let _ = running.wait_for(|running| *running == 0).await;
        };
        tokio::time::timeout(longest, drained).await.is_ok()
    }

    /// How many handlers run now.
    pub(crate) fn running(&self) -> usize {
        *self.running.borrow()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // A handler that blocks its thread must not hold up the end of the process.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Spawns what comes in, from within the runtime: so a claim wakes nobody but who is to run it.
fn spawn_each<T, F>(
    runtime: &Runtime,
    mut claimed: mpsc::UnboundedReceiver<T>,
    run: impl Fn(T) -> F + Send + 'static,
) -> JoinHandle<()>
where
    T: Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    // Without breaks: where one is due, the rest waits for this very thread, and a handler may block it.
    runtime.spawn(tokio::task::unconstrained(async move {
        while let Some(task) = claimed.recv().await {
            tokio::spawn(run(task));
        }
    }))
}

/// Runs one handler and reports how it ended. What is rare is boxed, or every run would have room for it.
async fn run(peer: Frestq, claimed: Claimed) {
    let (id, epoch) = (claimed.state.id.clone(), claimed.state.epoch);
    let queue = claimed.state.queue.clone();
    let reserves = claimed.state.moment == Some(Moment::Reserve);
    let unwanted = reserves.then(|| (claimed.state.clone(), claimed.input.clone()));
    let completed = match peer.0.registry.get(&queue, &claimed.state.action) {
        Some(handler) => handle(&peer, handler, claimed).await,
        None => {
            let action = &claimed.state.action;
            let known = peer.0.registry.describe();
            let message = format!("no handler for {queue}/{action}; {known}");
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
    let reserved = match (&completed, unwanted) {
        (
            Event::Completed {
                outcome: Ok(done), ..
            },
            Some((state, input)),
        ) => Some((state, input, done.output.clone())),
        _ => None,
    };
    let counts = report(&peer, completed).await;
    if let Some((mut state, input, reservation)) = reserved
        && !counts
        && let Some(handler) = peer.0.registry.get(&state.queue, &state.action)
        && !Box::pin(holds(&peer, &id, epoch)).await
    {
        // Called off meanwhile: nobody else knows what was reserved.
        state.moment = Some(Moment::CancelReservation);
        let claimed = Claimed {
            state,
            input,
            error: None,
            reservation,
            called_off: None,
        };
        Box::pin(handle(&peer, handler, claimed)).await;
    }
    peer.0.signals.runs.end(&id, epoch);
}

/// Whether a task holds what was reserved for it under this claim: the answer to its commit may have been
/// lost, or another process have reserved for it in our place.
async fn holds(peer: &Frestq, id: &TaskId, epoch: i64) -> bool {
    let rows = peer.0.store.stored(id).await.unwrap_or_default();
    let task = rows.into_iter().find(|task| task.state.id == *id);
    task.is_some_and(|task| match task.state.status {
        Status::Reserved | Status::Confirmed => task.state.epoch == epoch,
        // In the slot that it held.
        Status::Executing => task.state.epoch == epoch + 1,
        _ => false,
    })
}

async fn handle(peer: &Frestq, handler: &Registration, claimed: Claimed) -> Event {
    let Claimed {
        state,
        input,
        error,
        reservation,
        called_off,
    } = claimed;
    if let Some(direct) = handler.direct {
        return Box::pin(oversee(peer, handler, direct, state)).await;
    }
    let moment = state.moment;
    let error = error.map(|error| TaskError::from_output(&error));
    let TaskState {
        id,
        queue,
        epoch,
        expires_at,
        ..
    } = state;
    let sender = peer.0.peers.by_id(state.peer);
    let start = Start {
        id: id.clone(),
        queue: queue.clone(),
        action: state.action,
        sender: Sender {
            name: sender.as_ref().and_then(|row| row.name.clone()),
            url: sender.map_or_else(|| peer.url().clone(), |row| row.url.clone()),
            certificate: state.certificate.filter(|_| state.role == Role::Received),
        },
        attempt: state.attempt,
        epoch,
        input,
        parent: state.parent,
        order: state.order,
        reservation,
        called_off: called_off.unwrap_or_else(|| watch::channel(false).1),
    };
    let task = Task::new(peer.clone(), start);
    let timeout = handler.options.timeout;
    let output = match (moment, &error) {
        (Some(Moment::Reserve), _) => match handler.reserve {
            Some(reserve) => outcome(reserve(task.clone()), timeout).await,
            None => Ok(null()),
        },
        (Some(Moment::CancelReservation), _) => match handler.cancel_reservation {
            Some(cancel) => outcome(cancel(task.clone()), timeout).await,
            None => Ok(null()),
        },
        (_, None) => outcome((handler.run)(task.clone()), timeout).await,
        (_, Some(error)) => match handler.handle_error {
            Some(ask) => outcome(ask(task.clone(), error.clone()), timeout)
                .await
                .and_then(|recovered| recovered.ok_or_else(|| error.clone())),
            None => Err(error.clone()),
        },
    };
    let Added {
        transaction,
        children,
        output: set,
        parent_output,
    } = task.take_added();
    let adds = !children.is_empty() || set.is_some() || parent_output.is_some();
    let outcome = match (moment, output) {
        (Some(Moment::Execute), Ok(output)) => {
            let parent = Parent {
                id: &id,
                expires_at,
            };
            let output = set.unwrap_or(Ok(output));
            done(peer, parent, output, children, parent_output).await
        }
        (Some(Moment::HandleError), Ok(_)) if adds => {
            Err(TaskError::new(TaskError::FAILED, ONLY_EXECUTE))
        }
        (_, Ok(output)) => {
            if adds {
                // An error would lose what was reserved.
                tracing::error!("task {id} {queue}: {ONLY_EXECUTE}; what it added is dropped");
            }
            Ok(Box::new(Done {
                output,
                parent_output: None,
                children: Vec::new(),
                inputs: Vec::new(),
            }))
        }
        (Some(Moment::CancelReservation), Err(error)) => {
            tracing::error!("task {id} {queue}: giving back what it has reserved failed: {error}");
            Err(error)
        }
        (_, Err(error)) => Err(error),
    };
    // What was to be recovered from stays what the task has failed with.
    let outcome = outcome.map_err(|failed| match error {
        Some(error) => error.and_then(failed),
        None => failed,
    });
    Event::Completed {
        id,
        queue,
        epoch,
        outcome,
        transaction,
        options: handler.options,
    }
}

const ONLY_EXECUTE: &str = "only execute may add subtasks or set outputs";

/// Has a director look at its group.
async fn oversee(peer: &Frestq, handler: &Registration, direct: Direct, group: TaskState) -> Event {
    let after_round = group.moment == Some(Moment::EndRound);
    let looked = async {
        let family = peer.0.store.family(&group.id).await;
        let family = family.map_err(|error| TaskError::from_handler(error.into()))?;
        let subtask = |task: Waiting| {
            let receiver = peer.0.peers.by_id(task.state.peer);
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
        let seen = Group::new(peer.clone(), group.id.clone(), group.round, subtasks);
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
        options: handler.options,
    }
}

/// What the handler has brought, with the rows of the subtasks that it added.
async fn done(
    peer: &Frestq,
    parent: Parent<'_>,
    output: Result<Json>,
    children: Vec<Draft>,
    parent_output: Option<Result<Json>>,
) -> Result<Box<Done>, TaskError> {
    let failed = |error: Error| {
        TaskError::new(
            TaskError::FAILED,
            format!("what the handler added can't be stored: {error}"),
        )
    };
    let output = output.map_err(failed)?;
    let parent_output = parent_output.transpose().map_err(failed)?;
    let children = match children.is_empty() {
        true => Vec::new(),
        false => Box::pin(plant(peer, children, Some(parent)))
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

/// Panics and overlong runs are errors like any other.
async fn outcome<T>(
    run: impl Future<Output = Result<T, TaskError>>,
    timeout: Option<Duration>,
) -> Result<T, TaskError> {
    let caught = AssertUnwindSafe(run).catch_unwind();
    let ended = match timeout {
        Some(longest) => tokio::time::timeout(longest, caught).await.map_err(|_| {
            TaskError::new(
                TaskError::TIMEOUT,
                format!("the run took longer than {longest:?}, the most its action allows"),
            )
        })?,
        None => caught.await,
    };
    ended.unwrap_or_else(|panic| Err(TaskError::new(TaskError::PANICKED, panic_message(&*panic))))
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "the handler panicked".to_owned())
}

/// A completion must not be lost while the process lives: it is reported until it is taken. `false`:
/// the task does not wait for it any more.
async fn report(peer: &Frestq, completed: Event) -> bool {
    let mut wait = Duration::from_millis(100);
    loop {
        match peer.0.commits.submit(vec![completed.clone()]).await {
            Ok(answers) => return answers.contains(&Answer::Accepted),
            Err(Error::Stopping) => return true,
            Err(error) => {
                tracing::error!(%error, "a completion could not be stored; trying again");
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(Duration::from_secs(5));
            }
        }
    }
}

/// Puts back what this process still runs. It stays a node meanwhile, since only a node delivers what
/// becomes of that.
pub(crate) async fn release(peer: &Frestq, node: NodeId) -> Result<()> {
    let owned = peer.0.store.owned(node).await?;
    let events = owned.into_iter().map(|Waiting { state, .. }| {
        let TaskState {
            id, queue, action, ..
        } = state;
        cut_off(peer, id, node, &queue, &action)
    });
    peer.0.commits.submit(events.collect()).await.map(drop)
}

/// Puts back what other processes, or an earlier life of this one, left running.
pub(crate) async fn take_over_orphans(peer: &Frestq) -> Result<()> {
    const AT_ONCE: i64 = 500;
    loop {
        let orphans = peer.0.store.orphans(AT_ONCE).await?;
        if orphans.is_empty() {
            return Ok(());
        }
        tracing::info!("{} runs were cut off; putting them back", orphans.len());
        let events = orphans
            .into_iter()
            .map(|(id, owner, queue, action)| cut_off(peer, id, owner, &queue, &action));
        peer.0.commits.submit(events.collect()).await?;
    }
}

/// What the action declares is known only to a process that has its handler. One that has not goes by
/// what the row says.
fn cut_off(peer: &Frestq, id: TaskId, owner: NodeId, queue: &str, action: &str) -> Event {
    let options = peer
        .0
        .registry
        .get(queue, action)
        .map_or(ActionOptions::DEFAULT, |handler| handler.options);
    Event::CutOff { id, owner, options }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            RwLock,
            atomic::{AtomicUsize, Ordering},
        },
        time::Instant,
    };

    use super::*;

    #[test]
    fn handlers_that_block_their_threads_keep_no_other_from_starting() {
        const CLAIMED: usize = 300;
        const THREADS: usize = 8;
        // All threads but one are blocked, by some of the first 128: after so many, a runtime has a task
        // make a break.
        let blocks = |number| number % 16 == 0 && number < 16 * THREADS;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .build()
            .unwrap();
        let (sender, claimed) = mpsc::unbounded_channel();
        (1..=CLAIMED).for_each(|number| sender.send(number).unwrap());
        let gate = Arc::new(RwLock::new(()));
        let shut = gate.clone();
        let shut = shut.write();
        let ended = Arc::new(AtomicUsize::new(0));
        let count = ended.clone();
        spawn_each(&runtime, claimed, move |number| {
            let (gate, count) = (gate.clone(), count.clone());
            async move {
                if blocks(number) {
                    drop(gate.read());
                }
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        let deadline = Instant::now() + Duration::from_secs(10);
        let free = CLAIMED - (THREADS - 1);
        while ended.load(Ordering::SeqCst) < free && Instant::now() < deadline {
            std::thread::yield_now();
        }
        let before = ended.load(Ordering::SeqCst);
        drop(shut);
        assert_eq!(before, free);
    }
}
