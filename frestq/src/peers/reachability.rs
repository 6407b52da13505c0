//! The breaker of a peer: open after a failure on the way to it, tried by one probe at a time.

use jiff::Timestamp;

use crate::{model::backoff, store::PeerHealth};

/// What may be sent to a peer now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BreakerState {
    /// As much as the limits allow.
    Open,
    /// One request, to see whether it is there again.
    Probe,
    /// Nothing before then.
    Closed(Timestamp),
}

pub(crate) fn gate(health: &PeerHealth, now: Timestamp) -> BreakerState {
    match health.probe_at {
        Some(at) if at > now => BreakerState::Closed(at),
        _ if health.failures > 0 => BreakerState::Probe,
        _ => BreakerState::Open,
    }
}

/// A request got no answer. Requests that were under way together when the peer went away are one
/// failure: those that end while the breaker is open already say nothing new.
pub(crate) fn failed(health: &mut PeerHealth, why: &str, now: Timestamp, luck: f64) {
    if !matches!(gate(health, now), BreakerState::Closed(_)) {
        health.failures = health.failures.saturating_add(1);
        health.probe_at = Some(backoff::next_probe(health.failures, now, luck));
    }
    health.last_error = Some(why.to_owned());
}

/// The peer answered, whatever it said, or spoke to us.
pub(crate) fn reached(health: &mut PeerHealth) {
    health.failures = 0;
    health.probe_at = None;
    health.last_error = None;
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_failing_peer_gets_one_probe_at_a_time_with_growing_waits() {
        let (mut health, mut now) = (PeerHealth::default(), Timestamp::UNIX_EPOCH);
        assert_eq!(gate(&health, now), BreakerState::Open);
        let mut waits = Vec::new();
        for _ in 0..5 {
            failed(&mut health, "connection refused", now, 1.0);
            let BreakerState::Closed(at) = gate(&health, now) else {
                panic!("not closed after a failure")
            };
            waits.push(at.duration_since(now).as_secs());
            now = at + Duration::from_millis(1);
            assert_eq!(gate(&health, now), BreakerState::Probe);
        }
        assert_eq!(waits, [1, 5, 30, 60, 60]);
    }

    #[test]
    fn requests_that_fail_together_are_one_failure() {
        let (mut health, now) = (PeerHealth::default(), Timestamp::UNIX_EPOCH);
        for _ in 0..32 {
            failed(&mut health, "connection reset", now, 1.0);
        }
        assert_eq!(health.failures, 1);
        assert_eq!(
            gate(&health, now),
            BreakerState::Closed(now + Duration::from_secs(1))
        );
    }

    #[test]
    fn an_answer_closes_the_breaker() {
        let mut health = PeerHealth {
            failures: 9,
            probe_at: Some(Timestamp::MAX),
            ..PeerHealth::default()
        };
        reached(&mut health);
        assert_eq!(gate(&health, Timestamp::UNIX_EPOCH), BreakerState::Open);
    }
}
