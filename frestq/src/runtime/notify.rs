//! What the committer tells the others once it is true: caches of rows, never the truth itself.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
};

use jiff::Timestamp;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::model::{Json, OutboxRow, PeerId, Status, TaskId};

/// How a task ended.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    pub(crate) status: Status,
    pub(crate) output: Json,
}

/// Who waits for the end of which task.
#[derive(Debug, Default)]
pub(crate) struct Watchers(Mutex<HashMap<TaskId, Vec<oneshot::Sender<Ended>>>>);

impl Watchers {
    fn map(&self) -> MutexGuard<'_, HashMap<TaskId, Vec<oneshot::Sender<Ended>>>> {
        self.0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Waits for the end of a task. Look at its row after this call and before waiting.
    pub(crate) fn watch(self: &Arc<Self>, id: &TaskId) -> Watch {
        let (sender, receiver) = oneshot::channel();
        self.map().entry(id.clone()).or_default().push(sender);
        Watch {
            watchers: self.clone(),
            id: id.clone(),
            receiver,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.map().is_empty()
    }

    /// Tells everybody who waits.
    pub(crate) fn tell(&self, id: &TaskId, ended: &Ended) {
        for sender in self.map().remove(id).unwrap_or_default() {
            // Who has stopped waiting needs no answer.
            let _ = sender.send(ended.clone());
        }
    }

    /// Wakes everybody who waits for this task to look at its row.
    pub(crate) fn look(&self, id: &TaskId) {
        drop(self.map().remove(id));
    }

    /// Wakes everybody to look at their rows.
    pub(crate) fn look_all(&self) {
        self.map().clear();
    }
}

/// One wait for the end of a task.
#[derive(Debug)]
pub(crate) struct Watch {
    watchers: Arc<Watchers>,
    id: TaskId,
    receiver: oneshot::Receiver<Ended>,
}

impl Watch {
    /// The end; `None`: look at the row again.
    pub(crate) async fn ended(&mut self) -> Option<Ended> {
        (&mut self.receiver).await.ok()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.receiver.close();
        let mut map = self.watchers.map();
        if let Some(senders) = map.get_mut(&self.id) {
            senders.retain(|sender| !sender.is_closed());
            if senders.is_empty() {
                map.remove(&self.id);
            }
        }
    }
}

/// The handlers that run in this process, to be told if their task is called off.
#[derive(Default)]
pub(crate) struct Runs(Mutex<HashMap<TaskId, (i64, watch::Sender<bool>)>>);

impl Runs {
    fn map(&self) -> MutexGuard<'_, HashMap<TaskId, (i64, watch::Sender<bool>)>> {
        self.0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// A run under this claim begins; what it gets turns true when its task is called off.
    pub(crate) fn begin(&self, id: &TaskId, epoch: i64) -> watch::Receiver<bool> {
        let (sender, receiver) = watch::channel(false);
        self.map().insert(id.clone(), (epoch, sender));
        receiver
    }

    /// The run under this claim is over.
    pub(crate) fn end(&self, id: &TaskId, epoch: i64) {
        let mut map = self.map();
        if map.get(id).is_some_and(|(newest, _)| *newest == epoch) {
            map.remove(id);
        }
    }

    pub(crate) fn cancel(&self, id: &TaskId) {
        if let Some((_, run)) = self.map().get(id) {
            run.send_replace(true);
        }
    }
}

/// Wakes the timer when something is planned earlier than it knows.
#[derive(Default)]
pub(crate) struct Timer {
    next: Mutex<Option<Timestamp>>,
    pub(crate) changed: Notify,
}

impl Timer {
    /// Something is due then.
    pub(crate) fn plan(&self, at: Timestamp) {
        let mut next = self
            .next
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if next.is_none_or(|planned| at < planned) {
            *next = Some(at);
            self.changed.notify_one();
        }
    }

    /// Takes what was planned since the last call.
    pub(crate) fn take(&self) -> Option<Timestamp> {
        self.next
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .take()
    }
}

/// Asks the delivery loop of a peer to look at the outbox.
#[derive(Clone, Debug)]
pub(crate) struct Wake {
    pub(crate) peer: PeerId,
    pub(crate) reason: WakeReason,
}

/// Why a delivery loop is woken.
#[derive(Clone, Debug)]
pub(crate) enum WakeReason {
    /// This process stored these messages, which are due.
    Stored(Vec<Arc<OutboxRow>>),
    /// A message is due only then.
    DueAt(Timestamp),
    /// The peer spoke to us, so it is there again.
    PeerIsBack,
    /// Another process stored messages, anywhere in the outbox.
    Elsewhere,
}

/// Everything the committer signals.
pub(crate) struct Notifier {
    pub(crate) watchers: Arc<Watchers>,
    pub(crate) timer: Timer,
    pub(crate) runs: Runs,
    outbox: mpsc::UnboundedSender<Wake>,
}

impl Notifier {
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Wake>) {
        let (outbox, wakes) = mpsc::unbounded_channel();
        (
            Self {
                watchers: Arc::default(),
                timer: Timer::default(),
                runs: Runs::default(),
                outbox,
            },
            wakes,
        )
    }

    pub(crate) fn wake_outbox(&self, peer: PeerId, reason: WakeReason) {
        // Without a receiver the peer is stopping, and rows wait for the next start.
        let _ = self.outbox.send(Wake { peer, reason });
    }
}
