//! How much one peer, or one address, may have at the same time, so that the flood of one leaves room for
//! the others.

use std::{
    collections::HashMap,
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
};

/// Counts things by whose they are.
#[derive(Debug)]
pub(crate) struct Quota<K> {
    most: usize,
    counts: Mutex<HashMap<K, usize>>,
}

/// Counts until it is dropped.
#[must_use]
#[derive(Debug)]
pub(crate) struct QuotaGuard<K: Eq + Hash> {
    quota: Arc<Quota<K>>,
    key: Option<K>,
}

impl<K: Eq + Hash + Clone> Quota<K> {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            counts: Mutex::default(),
        })
    }

    /// Another one of this key, unless it has as many as it may.
    pub(crate) fn enter(self: &Arc<Self>, key: K) -> Option<QuotaGuard<K>> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(key.clone()).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(QuotaGuard {
            quota: self.clone(),
            key: Some(key),
        })
    }
}

impl<K: Eq + Hash> Drop for QuotaGuard<K> {
    fn drop(&mut self) {
        let Some(key) = self.key.take() else { return };
        let counts = self.quota.counts.lock();
        let mut counts = counts.unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&key);
            }
        }
    }
}

/// Who an address belongs to: of IPv6, a site has 64 bits of its own.
pub(crate) fn site(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_has_enough_leaves_room_for_the_others() {
        let quota = Quota::new(2);
        let first = (quota.enter("a"), quota.enter("a"));
        assert!(first.0.is_some() && first.1.is_some());
        assert!(quota.enter("a").is_none());
        assert!(quota.enter("b").is_some());
        drop(first.0);
        assert!(quota.enter("a").is_some());
        drop(first.1);
        // Whoever has nothing leaves nothing behind.
        assert!(quota.counts.lock().unwrap().is_empty());
    }

    #[test]
    fn the_addresses_of_a_site_count_together() {
        let site = |text: &str| site(text.parse().unwrap());
        assert_eq!(site("2a00:1:2:3::4"), site("2a00:1:2:3:5::6"));
        assert_ne!(site("2a00:1:2:3::4"), site("2a00:1:2:4::4"));
        assert_ne!(site("1.2.3.4"), site("1.2.3.5"));
        assert_eq!(site("::ffff:1.2.3.4"), site("1.2.3.4"));
    }
}
