//! The dispatcher of the outbox: starts a lane for each peer and passes on its wakes. The rows of
//! the outbox are the truth; a lane keeps in memory only which of them are in flight.

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
        supervisor::abort_on_panic,
    },
};

/// The running deliveries of a peer.
pub(crate) struct Deliveries {
    stop: watch::Sender<bool>,
    dispatcher: tokio::task::JoinHandle<()>,
}

impl Deliveries {
    /// Starts delivery, with the messages that are pending from before.
    pub(crate) async fn start(
        outbox: Outbox,
        wakes: mpsc::UnboundedReceiver<Wake>,
    ) -> Result<Self> {
        let backlog = outbox.store.backlog().await?;
        let (stop, stopping) = watch::channel(false);
        let dispatcher = tokio::spawn(abort_on_panic(
            "the dispatcher of the outbox",
            dispatch(Arc::new(outbox), backlog, wakes, stopping),
        ));
        Ok(Self { stop, dispatcher })
    }

    /// Stops all lanes once they have delivered what is due, or after `longest`. The rest waits
    /// for the next start.
    pub(crate) async fn drain(self, longest: std::time::Duration) {
        // Fails only if the dispatcher has ended already.
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

/// Starts a lane for each peer when it is first woken, and passes on the wakes.
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
            tasks.spawn(abort_on_panic("a lane of the outbox", lane.run()));
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
    // Messages that were stored just before the stop are still delivered.
    while let Ok(next) = wakes.try_recv() {
        wake(next, &mut tasks);
    }
    drop(lanes);
    let _ = stopping.wait_for(|stop| *stop).await;
    while tasks.join_next().await.is_some() {}
}
