//! Back-pressure: how much may wait here. Past that, a message is answered with 503 before it costs
//! anything.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
};

use crate::{config::Limits, model::PeerId};

/// Counts the received tasks that have not ended. A cache of rows: loaded at start, kept by the
/// committer, and loaded again now and then where other processes end tasks too.
pub(crate) struct Admission {
    limits: Limits,
    total: AtomicI64,
    by_peer: Mutex<HashMap<PeerId, i64>>,
    /// Those among them that are not stored yet.
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

    /// Sets the counts to what the database says, and what is about to be stored.
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

    /// Locked after `by_peer`, where both are.
    fn permits(&self) -> MutexGuard<'_, HashMap<PeerId, i64>> {
        self.permits
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
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

    /// Whether another task of this peer can be taken in. If so it counts from now on, by the permit
    /// until it is stored or refused, so that many at once don't pass the limit together.
    pub(crate) fn admit(self: &Arc<Self>, peer: PeerId) -> Result<Permit, &'static str> {
        let mut by_peer = self
            .by_peer
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if self.total.load(Ordering::Relaxed) >= self.limits.open_tasks {
            return Err("too many tasks wait here");
        }
        let waiting = by_peer.entry(peer).or_default();
        if *waiting >= self.limits.open_tasks_per_peer {
            return Err("too many tasks of yours wait here");
        }
        *waiting += 1;
        *self.permits().entry(peer).or_default() += 1;
        self.total.fetch_add(1, Ordering::Relaxed);
        Ok(Permit {
            admission: self.clone(),
            peer,
        })
    }

    /// Bytes that must stay free on the disk.
    pub(crate) fn free_disk(&self) -> u64 {
        self.limits.free_disk
    }
}

/// Counts for a task that is about to be stored.
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
    fn many_at_once_do_not_pass_the_limit_together() {
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
    fn counts_that_are_loaded_again_keep_what_is_about_to_be_stored() {
        let limits = Limits {
            open_tasks: 3,
            ..Limits::default()
        };
        let admission = Arc::new(Admission::new(limits));
        let peer = PeerId(1);
        admission.add(&HashMap::from([(peer, 2)]));
        let permit = admission.admit(peer);
        assert!(permit.is_ok() && admission.admit(peer).is_err());
        // Another process has ended one.
        admission.reset(vec![(peer, 1)]);
        assert!(admission.admit(peer).is_ok());
        drop(permit);
        admission.add(&HashMap::from([(peer, 1)]));
        assert!(admission.admit(peer).is_ok());
        admission.reset(vec![(peer, 3)]);
        assert!(admission.admit(peer).is_err());
    }
}
