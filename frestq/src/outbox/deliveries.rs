//! Delivery: a loop for each peer, so that a dead one slows no other. The rows of the outbox are the
//! truth; a loop keeps in memory only which of them are under way.

use std::{collections::HashMap, sync::Arc};

use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

use super::{context::Outbox, lane::Lane};
use crate::{
    model::{PeerId, error::Result},
    runtime::{
        notify::{Wake, WakeReason},
        supervisor::vital,
    },
};

/// Running deliveries.
pub(crate) struct Deliveries {
    stop: watch::Sender<bool>,
    dispatcher: tokio::task::JoinHandle<()>,
}

impl Deliveries {
    /// Starts with whatever waits from before.
    pub(crate) async fn start(
        outbox: Outbox,
        wakes: mpsc::UnboundedReceiver<Wake>,
    ) -> Result<Self> {
        let backlog = outbox.store.backlog().await?;
        let (stop, stopping) = watch::channel(false);
        let dispatcher = tokio::spawn(vital(
            "the dispatcher of messages",
            dispatch(Arc::new(outbox), backlog, wakes, stopping),
        ));
        Ok(Self { stop, dispatcher })
    }

    /// Lets each lane deliver what is due and then stop. Whatever is left waits for the next start.
    pub(crate) async fn drain(self, longest: std::time::Duration) {
        // A dispatcher that is gone has nothing left to stop.
        let _ = self.stop.send(true);
        let abort = self.dispatcher.abort_handle();
        if tokio::time::timeout(longest, self.dispatcher)
            .await
            .is_err()
        {
            abort.abort();
        }
    }
}

/// Gives each peer its lane, and each lane its wakes.
async fn dispatch(
    outbox: Arc<Outbox>,
    backlog: Vec<(PeerId, jiff::Timestamp)>,
    mut wakes: mpsc::UnboundedReceiver<Wake>,
    mut stopping: watch::Receiver<bool>,
) {
    let mut lanes: HashMap<PeerId, mpsc::UnboundedSender<WakeReason>> = HashMap::new();
    let mut tasks = JoinSet::new();
    let mut wake = |wake: Wake, tasks: &mut JoinSet<()>| {
        let lane = lanes.entry(wake.peer).or_insert_with(|| {
            let (sender, receiver) = mpsc::unbounded_channel();
            let lane = Lane::new(outbox.clone(), wake.peer, receiver);
            tasks.spawn(vital("a lane of the outbox", lane.run()));
            sender
        });
        // A lane ends only when the peer stops.
        let _ = lane.send(wake.reason);
    };
    for (peer, _) in backlog {
        wake(
            Wake {
                peer,
                reason: WakeReason::Elsewhere,
            },
            &mut tasks,
        );
    }
    let mut stopped = stopping.clone();
    loop {
        tokio::select! {
            next = wakes.recv() => match next {
                Some(next) => wake(next, &mut tasks),
                None => break,
            },
            _ = stopped.wait_for(|stop| *stop) => break,
        }
    }
    // What was stored just before the stop is still to be delivered.
    while let Ok(next) = wakes.try_recv() {
        wake(next, &mut tasks);
    }
    drop(lanes);
    let _ = stopping.wait_for(|stop| *stop).await;
    while tasks.join_next().await.is_some() {}
}
