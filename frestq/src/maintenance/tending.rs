//! What happens without anybody's doing: due dates, heartbeats, the room on the disk.

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

/// A lease lasts several of these.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// Where several processes share a database, what one keeps in memory drifts away from the rows.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// How many due tasks are handled at once.
const AT_ONCE: i64 = 500;

/// Runs all of it, for as long as the peer does.
pub(crate) async fn run(services: &Services, node: NodeId) {
    tokio::join!(
        keep_time(services),
        keep_alive(services, node),
        listen(services),
        pruning::tend(services)
    );
}

/// Expires tasks and starts delayed ones, each at its time.
async fn keep_time(services: &Services) {
    loop {
        let next = match due(services).await {
            Ok(next) => next,
            Err(error) => {
                tracing::error!(error = %error.with_causes(), "due tasks can't be read; trying again");
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

/// Handles what is due; gives the time of what comes next.
async fn due(services: &Services) -> Result<Option<jiff::Timestamp>> {
    loop {
        let due = services.store.due(services.clock.now(), AT_ONCE).await?;
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

async fn keep_alive(services: &Services, node: NodeId) {
    let mut ticks = tokio::time::interval(HEARTBEAT);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let admission = &services.admission;
        admission.set_disk_is_full(!services.store.has_room(admission.free_disk()));
        if !is_alive(services, node).await {
            // Whatever this process runs would look as if it had been left behind.
            continue;
        }
        let contacts = services.peers.write_contacts(&services.store);
        if !matches!(timeout(HEARTBEAT, contacts).await, Ok(Ok(()))) {
            tracing::debug!("the last contacts with other peers could not be written down");
        }
        match timeout(HEARTBEAT, orphans::take_over(services)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(error = %error.with_causes(), "tasks of dead processes can't be taken over; trying again");
            }
            // The heartbeat must not wait for it.
            Err(_) => {
                tracing::warn!("tasks of dead processes can't be taken over in time; trying again");
            }
        }
    }
}

/// Extends the lease of this process. One that was given up for dead, as after a time without its
/// database, becomes alive again: it would deliver nothing any more, and all it runs would be cut off.
async fn is_alive(services: &Services, node: NodeId) -> bool {
    let store = &services.store;
    let alive = match store.heartbeat(node).await {
        Ok(false) => {
            let again = store.join_again(node, &services.config.node_name()).await;
            if let Ok(true) = again {
                tracing::warn!(
                    "this process was given up for dead and is back; what it ran may run elsewhere"
                );
            }
            again
        }
        other => other,
    };
    match alive {
        Ok(true) => true,
        Ok(false) => {
            tracing::error!("another process took the place of this one: is it still needed?");
            false
        }
        Err(error) => {
            tracing::warn!(error = %error.with_causes(), "the heartbeat failed; trying again");
            false
        }
    }
}

/// Hears what other processes of this peer have stored.
async fn listen(services: &Services) {
    let mut wakes = loop {
        match services.store.wakes().await {
            Ok(Some(wakes)) => break wakes,
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(error = %error.with_causes(), "can't listen to the other processes of this peer; trying again");
                tokio::time::sleep(HEARTBEAT).await;
            }
        }
    };
    look_everywhere(services).await;
    let mut again = tokio::time::interval(LOOK_AGAIN);
    again.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let wake = tokio::select! {
            wake = wakes.recv() => match wake {
                Some(wake) => wake,
                None => return,
            },
            _ = again.tick() => {
                // Others end tasks that we took in, and a process may die with a lock on a waiting
                // task that we passed over.
                match services.store.open_tasks().await {
                    Ok(counts) => services.admission.reset(counts),
                    Err(error) => tracing::warn!(error = %error.with_causes(), "open tasks can't be counted"),
                }
                Wake::Everything
            }
        };
        match wake {
            Wake::Queue(queue) => {
                services.commits.look(queue).await;
                // It may be a task that is delayed.
                services.notifier.timer.plan(services.clock.now());
            }
            Wake::Outbox(to) => services.notifier.wake_outbox(to, WakeReason::Elsewhere),
            Wake::Ended(task) => {
                services.notifier.watchers.look(&task);
                // If it runs here, another process has called it off: its result counts no more.
                services.notifier.runs.cancel(&task);
            }
            Wake::RegisteredPeers => look_at_members(services).await,
            Wake::Everything => look_everywhere(services).await,
        }
    }
}

/// Nothing in memory can be relied on: look at the rows.
async fn look_everywhere(services: &Services) {
    for queue in services.catalog.queues() {
        services.commits.look(queue).await;
    }
    match services.store.backlog().await {
        Ok(backlog) => {
            for (to, _) in backlog {
                services.notifier.wake_outbox(to, WakeReason::Elsewhere);
            }
        }
        Err(error) => tracing::warn!(error = %error.with_causes(), "the outbox can't be read"),
    }
    look_at_members(services).await;
    services.notifier.watchers.look_all();
    services.notifier.timer.plan(services.clock.now());
}

async fn look_at_members(services: &Services) {
    if let Err(error) = services.registry.look().await {
        tracing::warn!(error = %error.with_causes(), "the registered peers can't be read");
    }
}
