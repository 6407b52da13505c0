//! Admission control: how many received tasks may be open. Past the limit a task is rejected with
//! 503 before it causes any work.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
};

use crate::{config::Limits, model::PeerId};

/// The number of open received tasks, in total and for each peer. A cache of rows: loaded at
/// start, updated by the committer, and reloaded periodically where other processes end tasks
/// too.
pub(crate) struct Admission {
    limits: Limits,
    total: AtomicI64,
    by_peer: Mutex<HashMap<PeerId, i64>>,
    /// The part of `by_peer` that is not stored yet.
    permits: Mutex<HashMap<PeerId, i64>>,
    disk_is_full: AtomicBool,
}

impl Admission {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            total: AtomicI64::new(0),
            by_peer: Mutex::default(),
            permits: Mutex::default(),
            disk_is_full: AtomicBool::new(false),
        }
    }

    /// Sets the counts to those of the database, plus the permits that are held.
    pub(crate) fn reset(&self, counts: Vec<(PeerId, i64)>) {
        let mut by_peer = self
            .by_peer
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        *by_peer = counts.into_iter().collect();
        for (peer, permits) in self.permits().iter() {
            *by_peer.entry(*peer).or_default() += permits;
        }
        self.total.store(by_peer.values().sum(), Ordering::Relaxed);
    }

    /// Lock order: `by_peer` first, then this.
    fn permits(&self) -> MutexGuard<'_, HashMap<PeerId, i64>> {
        self.permits
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Adds the tasks that a transaction has created, and subtracts those that it has ended.
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
                    target: "frestq::commit",
                    "the disk is nearly full: new messages are rejected until there is room",
                );
            } else {
                tracing::info!(
                    target: "frestq::commit",
                    "the disk has room again: new messages are accepted",
                );
            }
        }
    }

    /// The reason to reject every message, if there is one.
    pub(crate) fn refuse_message(&self) -> Option<&'static str> {
        self.disk_is_full
            .load(Ordering::Relaxed)
            .then_some("the disk of this peer is nearly full")
    }

    /// Admits another task of this peer, unless a limit is reached. The permit counts it until it
    /// is stored or rejected, so that concurrent requests can't exceed the limit together.
    pub(crate) fn admit(self: &Arc<Self>, peer: PeerId) -> Result<Permit, &'static str> {
        let mut by_peer = self
            .by_peer
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if self.total.load(Ordering::Relaxed) >= self.limits.open_tasks {
            return Err("too many open tasks");
        }
        let waiting = by_peer.entry(peer).or_default();
        if *waiting >= self.limits.open_tasks_per_peer {
            return Err("too many open tasks from your peer");
        }
        *waiting += 1;
        *self.permits().entry(peer).or_default() += 1;
        self.total.fetch_add(1, Ordering::Relaxed);
        Ok(Permit {
            admission: self.clone(),
            peer,
        })
    }

    /// The number of bytes that must stay free on the disk.
    pub(crate) fn free_disk(&self) -> u64 {
        self.limits.free_disk
    }
}

/// Counts a task that is about to be stored.
#[must_use]
pub(crate) struct Permit {
    admission: Arc<Admission>,
    peer: PeerId,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut by_peer = self
            .admission
            .by_peer
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        *by_peer.entry(self.peer).or_default() -= 1;
        *self.admission.permits().entry(self.peer).or_default() -= 1;
        self.admission.total.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn concurrent_requests_do_not_exceed_the_limit() {
        let limits = Limits {
            open_tasks: 5,
            open_tasks_per_peer: 3,
            ..Limits::default()
        };
        let admission = Arc::new(Admission::new(limits));
        let (one, other) = (PeerId(1), PeerId(2));
        admission.add(&HashMap::from([(one, 1)]));
        let permits: Vec<_> = (0..4).flat_map(|_| admission.admit(one)).collect();
        assert_eq!(permits.len(), 2);
        let others: Vec<_> = (0..4).flat_map(|_| admission.admit(other)).collect();
        assert_eq!(others.len(), 2);
        drop(permits);
        assert!(admission.admit(one).is_ok());
    }

    #[test]
    fn reloaded_counts_keep_the_permits() {
        let limits = Limits {
            open_tasks: 3,
            ..Limits::default()
        };
        let admission = Arc::new(Admission::new(limits));
        let peer = PeerId(1);
        admission.add(&HashMap::from([(peer, 2)]));
        let permit = admission.admit(peer);
        assert!(permit.is_ok() && admission.admit(peer).is_err());
        // Another process has ended one task.
        admission.reset(vec![(peer, 1)]);
        assert!(admission.admit(peer).is_ok());
        drop(permit);
        admission.add(&HashMap::from([(peer, 1)]));
        assert!(admission.admit(peer).is_ok());
        admission.reset(vec![(peer, 3)]);
        assert!(admission.admit(peer).is_err());
    }
}
