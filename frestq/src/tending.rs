//! What happens without anybody's doing: due dates, heartbeats, the room on the disk.

use std::time::Duration;

use tokio::{
    task::JoinHandle,
    time::{MissedTickBehavior, timeout},
};

use crate::{
    decisions, engine::Event, error::Result, model::NodeId, peer::Frestq, pruning,
    signals::WakeReason, store::Wake, vital::vital, worker,
};

/// A lease lasts several of these.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// Where several processes share a database, what one keeps in memory drifts away from the rows.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// How many due tasks are handled at once.
const AT_ONCE: i64 = 500;

/// Starts all of it.
pub(crate) fn start(peer: Frestq, node: NodeId) -> JoinHandle<()> {
    tokio::spawn(vital("tending", async move {
        tokio::join!(
            keep_time(&peer),
            keep_alive(&peer, node),
            listen(&peer),
            decisions::answer(&peer),
            pruning::tend(&peer)
        );
    }))
}

/// Expires tasks and starts delayed ones, each at its time.
async fn keep_time(peer: &Frestq) {
    loop {
        let next = match due(peer).await {
            Ok(next) => next,
            Err(error) => {
                tracing::error!(%error, "due tasks can't be read; trying again");
                peer.0.clock.now().checked_add(Duration::from_secs(1)).ok()
            }
        };
        let (clock, timer) = (&peer.0.clock, &peer.0.signals.timer);
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
async fn due(peer: &Frestq) -> Result<Option<jiff::Timestamp>> {
    loop {
        let due = peer.0.store.due(peer.0.clock.now(), AT_ONCE).await?;
        for queue in due.ready {
            peer.0.commits.look(queue).await;
        }
        if due.expired.is_empty() && due.waking.is_empty() {
            return Ok(due.next);
        }
        peer.0
            .commits
            .submit(
                (due.expired.into_iter().map(Event::Expire))
                    .chain(due.waking.into_iter().map(Event::Wake))
                    .collect(),
            )
            .await?;
    }
}

async fn keep_alive(peer: &Frestq, node: NodeId) {
    let mut ticks = tokio::time::interval(HEARTBEAT);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let admission = &peer.0.admission;
        admission.set_disk_is_full(!peer.0.store.has_room(admission.free_disk()));
        if !is_alive(peer, node).await {
            // Whatever this process runs would look as if it had been left behind.
            continue;
        }
        let contacts = peer.0.peers.write_contacts(&peer.0.store);
        if !matches!(timeout(HEARTBEAT, contacts).await, Ok(Ok(()))) {
            tracing::debug!("the last contacts with other peers could not be written down");
        }
        match timeout(HEARTBEAT, worker::take_over_orphans(peer)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "tasks of dead processes can't be taken over; trying again");
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
async fn is_alive(peer: &Frestq, node: NodeId) -> bool {
    let store = &peer.0.store;
    let alive = match store.heartbeat(node).await {
        Ok(false) => {
            let again = store.join_again(node, &peer.config().node_name()).await;
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
            tracing::warn!(%error, "the heartbeat failed; trying again");
            false
        }
    }
}

/// Hears what other processes of this peer have stored.
async fn listen(peer: &Frestq) {
    let mut wakes = loop {
        match peer.0.store.wakes().await {
            Ok(Some(wakes)) => break wakes,
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(%error, "can't listen to the other processes of this peer; trying again");
                tokio::time::sleep(HEARTBEAT).await;
            }
        }
    };
    look_everywhere(peer).await;
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
                match peer.0.store.open_tasks().await {
                    Ok(counts) => peer.0.admission.reset(counts),
                    Err(error) => tracing::warn!(%error, "open tasks can't be counted"),
                }
                Wake::Everything
            }
        };
        match wake {
            Wake::Queue(queue) => {
                peer.0.commits.look(queue).await;
                // It may be a task that is delayed.
                peer.0.signals.timer.plan(peer.0.clock.now());
            }
            Wake::Outbox(to) => peer.0.signals.wake_outbox(to, WakeReason::Elsewhere),
            Wake::Ended(task) => {
                peer.0.signals.watchers.look(&task);
                // If it runs here, another process has called it off: its result counts no more.
                peer.0.signals.runs.call_off(&task);
            }
            Wake::Members => look_at_members(peer).await,
            Wake::Everything => look_everywhere(peer).await,
        }
    }
}

/// Nothing in memory can be relied on: look at the rows.
async fn look_everywhere(peer: &Frestq) {
    for queue in peer.0.registry.queues() {
        peer.0.commits.look(queue).await;
    }
    match peer.0.store.backlog().await {
        Ok(backlog) => {
            for (to, _) in backlog {
                peer.0.signals.wake_outbox(to, WakeReason::Elsewhere);
            }
        }
        Err(error) => tracing::warn!(%error, "the outbox can't be read"),
    }
    look_at_members(peer).await;
    peer.0.signals.watchers.look_all();
    peer.0.signals.timer.plan(peer.0.clock.now());
}

async fn look_at_members(peer: &Frestq) {
    if let Err(error) = peer.0.membership.look().await {
        tracing::warn!(%error, "the registered peers can't be read");
    }
}
