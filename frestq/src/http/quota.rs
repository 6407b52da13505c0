//! Quotas: limits on concurrent connections and requests by key, such as a peer or an address, so
//! that one peer can't use up all capacity.

use std::{
    collections::HashMap,
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
};

/// A limit on concurrent uses, counted by key.
#[derive(Debug)]
pub(crate) struct Quota<K> {
    limit: usize,
    counts: Mutex<HashMap<K, usize>>,
}

/// One counted use, until it is dropped.
#[must_use]
#[derive(Debug)]
pub(crate) struct QuotaGuard<K: Eq + Hash> {
    quota: Arc<Quota<K>>,
    key: Option<K>,
}

impl<K: Eq + Hash + Clone> Quota<K> {
    /// A quota with this limit for each key.
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            counts: Mutex::default(),
        })
    }

    /// Counts another use of this key, unless it has reached the limit.
    pub(crate) fn acquire(self: &Arc<Self>, key: K) -> Option<QuotaGuard<K>> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(key.clone()).or_default();
        if *count >= self.limit {
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

/// The site of an address: an IPv4 address itself, and the /64 prefix of an IPv6 address, since
/// one site controls the other 64 bits.
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
    fn a_key_at_its_limit_does_not_affect_the_others() {
        let quota = Quota::new(2);
        let first = (quota.acquire("a"), quota.acquire("a"));
        assert!(first.0.is_some() && first.1.is_some());
        assert!(quota.acquire("a").is_none());
        assert!(quota.acquire("b").is_some());
        drop(first.0);
        assert!(quota.acquire("a").is_some());
        drop(first.1);
        // Keys without uses are removed.
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
