//! Back-pressure: how much may wait here. Past that, a message is answered with 503 before it costs
//! anything.

use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
};

use crate::{config::Limits, model::PeerId};

/// Counts the received tasks that have not ended. A cache of rows: loaded at start, kept by the
/// committer.
pub(crate) struct Admission {
    limits: Limits,
    total: AtomicI64,
    by_peer: Mutex<HashMap<PeerId, i64>>,
    disk_is_full: AtomicBool,
}

impl Admission {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            total: AtomicI64::new(0),
            by_peer: Mutex::default(),
            disk_is_full: AtomicBool::new(false),
        }
    }

    /// Sets the counts to what the database says.
    pub(crate) fn reset(&self, counts: Vec<(PeerId, i64)>) {
        let mut by_peer = self
            .by_peer
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        *by_peer = counts.into_iter().collect();
        self.total.store(by_peer.values().sum(), Ordering::Relaxed);
    }

    /// Adds what a transaction has brought or ended.
    pub(crate) fn add(&self, changes: &HashMap<PeerId, i64>) {
        let mut by_peer = self
            .by_peer
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        for (peer, change) in changes {
            *by_peer.entry(*peer).or_default() += change;
            self.total.fetch_add(*change, Ordering::Relaxed);
        }
    }

    pub(crate) fn set_disk_is_full(&self, full: bool) {
        if self.disk_is_full.swap(full, Ordering::Relaxed) != full {
            if full {
                tracing::error!(
                    "the disk is nearly full: new messages are refused until there is room"
                );
            } else {
                tracing::info!("the disk has room again: new messages are accepted");
            }
        }
    }

    /// Whether nothing at all can be taken in.
    pub(crate) fn refuse_message(&self) -> Option<&'static str> {
        self.disk_is_full
            .load(Ordering::Relaxed)
            .then_some("the disk of this peer is nearly full")
    }

    /// Whether another task of this peer can be taken in.
    pub(crate) fn refuse_task(&self, peer: PeerId) -> Option<&'static str> {
        if self.total.load(Ordering::Relaxed) >= self.limits.open_tasks {
            return Some("too many tasks wait here");
        }
        let by_peer = self
            .by_peer
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let waiting = by_peer.get(&peer).copied().unwrap_or(0);
        (waiting >= self.limits.open_tasks_per_peer).then_some("too many tasks of yours wait here")
    }

    /// Bytes that must stay free on the disk.
    pub(crate) fn free_disk(&self) -> u64 {
        self.limits.free_disk
    }
}
