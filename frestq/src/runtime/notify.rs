//! Notifications of the committer about what it has committed: to waiting callers, running
//! handlers, the timer and the lanes of the outbox. They only tell others to look; the rows are
//! the truth.

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

/// The callers that wait for the end of a task, by task.
#[derive(Debug, Default)]
pub(crate) struct Watchers(Mutex<HashMap<TaskId, Vec<oneshot::Sender<Ended>>>>);

impl Watchers {
    fn map(&self) -> MutexGuard<'_, HashMap<TaskId, Vec<oneshot::Sender<Ended>>>> {
        self.0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Starts to watch a task. The caller must read its row after this call and before it waits.
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

    /// Notifies the watchers of a task that it has ended.
    pub(crate) fn notify_ended(&self, id: &TaskId, ended: &Ended) {
        for sender in self.map().remove(id).unwrap_or_default() {
            // The receiver may have stopped waiting.
            let _ = sender.send(ended.clone());
        }
    }

    /// Makes the watchers of a task read its row again.
    pub(crate) fn recheck(&self, id: &TaskId) {
        drop(self.map().remove(id));
    }

    /// Makes all watchers read their rows again.
    pub(crate) fn recheck_all(&self) {
        self.map().clear();
    }
}

/// A watch on a task, until it is dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    watchers: Arc<Watchers>,
    id: TaskId,
    receiver: oneshot::Receiver<Ended>,
}

impl Watch {
    /// Waits for the end of the task; `None` means that the row must be read again.
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

/// The runs of handlers in this process, which are notified if their task is cancelled.
#[derive(Default)]
pub(crate) struct Runs(Mutex<HashMap<TaskId, (i64, watch::Sender<bool>)>>);

impl Runs {
    fn map(&self) -> MutexGuard<'_, HashMap<TaskId, (i64, watch::Sender<bool>)>> {
        self.0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Begins a run under this claim. The receiver becomes true when the task is cancelled.
    pub(crate) fn begin(&self, id: &TaskId, epoch: i64) -> watch::Receiver<bool> {
        let (sender, receiver) = watch::channel(false);
        self.map().insert(id.clone(), (epoch, sender));
        receiver
    }

    /// Ends the run under this claim.
    pub(crate) fn end(&self, id: &TaskId, epoch: i64) {
        let mut map = self.map();
        if map.get(id).is_some_and(|(current, _)| *current == epoch) {
            map.remove(id);
        }
    }

    /// Notifies the run of a task, if there is one, that the task is cancelled.
    pub(crate) fn cancel(&self, id: &TaskId) {
        if let Some((_, run)) = self.map().get(id) {
            run.send_replace(true);
        }
    }
}

/// Wakes the timer when something becomes due earlier than it expects.
#[derive(Default)]
pub(crate) struct Timer {
    next: Mutex<Option<Timestamp>>,
    pub(crate) changed: Notify,
}

impl Timer {
    /// Registers that something is due at `at`.
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

    /// Takes the earliest time registered since the last call.
    pub(crate) fn take(&self) -> Option<Timestamp> {
        self.next
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .take()
    }
}

/// Wakes a peer's lane of the outbox.
#[derive(Clone, Debug)]
pub(crate) struct Wake {
    pub(crate) peer: PeerId,
    pub(crate) reason: WakeReason,
}

/// Why a lane is woken.
#[derive(Clone, Debug)]
pub(crate) enum WakeReason {
    /// This process stored these messages, which are due.
    Stored(Vec<Arc<OutboxRow>>),
    /// A message is due at this time.
    DueAt(Timestamp),
    /// The peer sent a message, so it can be reached again.
    PeerIsBack,
    /// Another process stored messages, anywhere in the outbox.
    Elsewhere,
}

/// The receivers of the committer's notifications.
pub(crate) struct Notifier {
    pub(crate) watchers: Arc<Watchers>,
    pub(crate) timer: Timer,
    pub(crate) runs: Runs,
    outbox: mpsc::UnboundedSender<Wake>,
}

impl Notifier {
    /// A notifier, and the receiver of the outbox's wakes.
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

    /// Wakes the lane of `peer`.
    pub(crate) fn wake_outbox(&self, peer: PeerId, reason: WakeReason) {
        // Without a receiver the peer is stopping, and the rows wait for the next start.
        let _ = self.outbox.send(Wake { peer, reason });
    }
}
