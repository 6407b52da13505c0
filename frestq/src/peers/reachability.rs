//! The circuit breaker of a peer: a failed request opens it, then one probe at a time tests the
//! peer.

use jiff::Timestamp;

use crate::{model::backoff, store::PeerHealth};

/// The state of a circuit breaker: what may be sent to the peer now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BreakerState {
    /// As many requests as the limits allow.
    Closed,
    /// One request, the probe.
    HalfOpen,
    /// No request before this time.
    Open(Timestamp),
}

/// The state of the breaker of a peer with this health.
pub(crate) fn breaker_state(health: &PeerHealth, now: Timestamp) -> BreakerState {
    match health.probe_at {
        Some(at) if at > now => BreakerState::Open(at),
        _ if health.failures > 0 => BreakerState::HalfOpen,
        _ => BreakerState::Closed,
    }
}

/// Records a request without an answer. Concurrent requests that fail together count as one
/// failure: those that end while the breaker is open don't count.
pub(crate) fn record_failure(health: &mut PeerHealth, why: &str, now: Timestamp, luck: f64) {
    if !matches!(breaker_state(health, now), BreakerState::Open(_)) {
        health.failures = health.failures.saturating_add(1);
        health.probe_at = Some(backoff::next_probe(health.failures, now, luck));
    }
    health.last_error = Some(why.to_owned());
}

/// Records that the peer answered, with any status, or sent a request. This closes the breaker.
pub(crate) fn record_success(health: &mut PeerHealth) {
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
        assert_eq!(breaker_state(&health, now), BreakerState::Closed);
        let mut waits = Vec::new();
        for _ in 0..5 {
            record_failure(&mut health, "connection refused", now, 1.0);
            let BreakerState::Open(at) = breaker_state(&health, now) else {
                panic!("not open after a failure")
            };
            waits.push(at.duration_since(now).as_secs());
            now = at + Duration::from_millis(1);
            assert_eq!(breaker_state(&health, now), BreakerState::HalfOpen);
        }
        assert_eq!(waits, [1, 5, 30, 60, 60]);
    }

    #[test]
    fn requests_that_fail_together_count_as_one_failure() {
        let (mut health, now) = (PeerHealth::default(), Timestamp::UNIX_EPOCH);
        for _ in 0..32 {
            record_failure(&mut health, "connection reset", now, 1.0);
        }
        assert_eq!(health.failures, 1);
        assert_eq!(
            breaker_state(&health, now),
            BreakerState::Open(now + Duration::from_secs(1))
        );
    }

    #[test]
    fn an_answer_closes_the_breaker() {
        let mut health = PeerHealth {
            failures: 9,
            probe_at: Some(Timestamp::MAX),
            ..PeerHealth::default()
        };
        record_success(&mut health);
        assert_eq!(
            breaker_state(&health, Timestamp::UNIX_EPOCH),
            BreakerState::Closed
        );
    }
}
