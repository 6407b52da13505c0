//! The background loops of a peer: the timer, the heartbeat, and notifications of other processes.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, timeout};

use super::{orphans, pruning};
use crate::{
    engine::Event,
    model::{NodeId, error::Result},
    runtime::notify::WakeReason,
    services::Services,
    store::Wake,
};

/// The interval of heartbeats; a lease lasts several of them.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// The interval of full refreshes. If several processes share a database, notifications may be
/// lost, and what one keeps in memory would diverge from the rows.
const REFRESH: Duration = Duration::from_secs(60);

/// The number of due tasks that are handled together.
const BATCH: i64 = 500;

/// Runs all loops, until the peer stops.
pub(crate) async fn run(services: &Services, node: NodeId) {
    tokio::join!(
        run_timer(services),
        run_heartbeat(services, node),
        handle_notifications(services),
        pruning::run(services)
    );
}

/// Expires tasks and starts delayed ones, each when it is due.
async fn run_timer(services: &Services) {
    loop {
        let next = match due(services).await {
            Ok(next) => next,
            Err(error) => {
                tracing::error!(target: "frestq::maintenance", error = %error.with_causes(), "due tasks can't be read; retrying");
                services
                    .clock
                    .now()
                    .checked_add(Duration::from_secs(1))
                    .ok()
            }
        };
        let (clock, timer) = (&services.clock, &services.notifier.timer);
        let next = [next, timer.take()].into_iter().flatten().min();
        let sleep = async {
            match next {
                Some(at) => clock.sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = sleep => {}
            () = timer.changed.notified() => {}
        }
    }
}

/// Handles the tasks that are due, and returns when the next one is.
async fn due(services: &Services) -> Result<Option<jiff::Timestamp>> {
    loop {
        let due = services.store.due(services.clock.now(), BATCH).await?;
        for queue in due.ready {
            services.commits.look(queue).await;
        }
        if due.expired.is_empty() && due.waking.is_empty() {
            return Ok(due.next);
        }
        services
            .commits
            .submit(
                (due.expired.into_iter().map(Event::Expire))
                    .chain(due.waking.into_iter().map(Event::Wake))
                    .collect(),
            )
            .await?;
    }
}

/// Renews the lease of this process, checks the disk, and takes over tasks of dead processes.
async fn run_heartbeat(services: &Services, node: NodeId) {
    let mut ticks = tokio::time::interval(HEARTBEAT);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let admission = &services.admission;
        admission.set_disk_is_full(!services.store.has_room(admission.free_disk()));
        if !renew_lease(services, node).await {
            // Without a lease, this process would take its own tasks for those of a dead one.
            continue;
        }
        let contacts = services.peers.write_contacts(&services.store);
        if !matches!(timeout(HEARTBEAT, contacts).await, Ok(Ok(()))) {
            tracing::debug!(target: "frestq::maintenance", "the contacts with other peers can't be stored");
        }
        match timeout(HEARTBEAT, orphans::take_over(services)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(
                    target: "frestq::maintenance",
                    error = %error.with_causes(),
                    "tasks of dead processes can't be taken over; retrying"
                );
            }
            // The heartbeat must not wait for it.
            Err(_) => {
                tracing::warn!(
                    target: "frestq::maintenance",
                    "taking over tasks of dead processes timed out; retrying"
                );
            }
        }
    }
}

/// Renews the lease of this process. If it has expired, for example because the database was
/// unreachable, the process joins again: otherwise it would deliver nothing, and its tasks would
/// be interrupted.
async fn renew_lease(services: &Services, node: NodeId) -> bool {
    let store = &services.store;
    let alive = match store.heartbeat(node).await {
        Ok(false) => {
            let joined = store.join_again(node, &services.config.node_name()).await;
            if let Ok(true) = joined {
                tracing::warn!(
                    target: "frestq::maintenance",
                    "the lease of this process had expired, and is renewed; its tasks may run in other processes"
                );
            }
            joined
        }
        other => other,
    };
    match alive {
        Ok(true) => true,
        Ok(false) => {
            tracing::error!(
                target: "frestq::maintenance",
                "another process has taken the place of this one: is it still needed?"
            );
            false
        }
        Err(error) => {
            tracing::warn!(target: "frestq::maintenance", error = %error.with_causes(), "the heartbeat failed; retrying");
            false
        }
    }
}

/// Handles the notifications of this peer's other processes.
async fn handle_notifications(services: &Services) {
    let mut wakes = loop {
        match services.store.wakes().await {
            Ok(Some(wakes)) => break wakes,
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(
                    target: "frestq::maintenance",
                    error = %error.with_causes(),
                    "can't listen for notifications of other processes; retrying"
                );
                tokio::time::sleep(HEARTBEAT).await;
            }
        }
    };
    refresh_all(services).await;
    let mut refresh = tokio::time::interval(REFRESH);
    refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let wake = tokio::select! {
            wake = wakes.recv() => match wake {
                Some(wake) => wake,
                None => return,
            },
            _ = refresh.tick() => {
                // Other processes end tasks that this one has admitted, and a process may die
                // while it locks a waiting task that this one skipped.
                match services.store.open_tasks().await {
                    Ok(counts) => services.admission.reset(counts),
                    Err(error) => tracing::warn!(
                        target: "frestq::maintenance",
                        error = %error.with_causes(),
                        "open tasks can't be counted"
                    ),
                }
                Wake::Everything
            }
        };
        match wake {
            Wake::Queue(queue) => {
                services.commits.look(queue).await;
                // The task may be a delayed one.
                services.notifier.timer.plan(services.clock.now());
            }
            Wake::Outbox(to) => services.notifier.wake_outbox(to, WakeReason::Elsewhere),
            Wake::Ended(task) => {
                services.notifier.watchers.recheck(&task);
                // If it runs here, another process has cancelled it: its result is discarded.
                services.notifier.runs.cancel(&task);
            }
            Wake::RegisteredPeers => refresh_registered_peers(services).await,
            Wake::Everything => refresh_all(services).await,
        }
    }
}

/// Refreshes everything in memory from the rows.
async fn refresh_all(services: &Services) {
    for queue in services.catalog.queues() {
        services.commits.look(queue).await;
    }
    match services.store.backlog().await {
        Ok(backlog) => {
            for (to, _) in backlog {
                services.notifier.wake_outbox(to, WakeReason::Elsewhere);
            }
        }
        Err(error) => {
            tracing::warn!(target: "frestq::delivery", error = %error.with_causes(), "the outbox can't be read")
        }
    }
    refresh_registered_peers(services).await;
    services.notifier.watchers.recheck_all();
    services.notifier.timer.plan(services.clock.now());
}

async fn refresh_registered_peers(services: &Services) {
    if let Err(error) = services.registry.refresh().await {
        tracing::warn!(target: "frestq::peer", error = %error.with_causes(), "the registered peers can't be read");
    }
}
