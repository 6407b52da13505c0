//! Backoff: when to try again.

use std::time::Duration;

use jiff::Timestamp;

/// The waits in seconds before the second, third, ... attempt; the last one repeats.
const WAITS: [u64; 7] = [1, 5, 30, 120, 600, 1800, 3600];

/// The maximum of `Retry-After`; a longer one is cut to it.
pub(crate) const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// The longest wait after the given number of failed attempts.
pub(crate) fn schedule(failed: i64) -> Duration {
    let index = usize::try_from(failed.max(1) - 1)
        .unwrap_or(usize::MAX)
        .min(WAITS.len() - 1);
    Duration::from_secs(WAITS[index])
}

/// The time of the next attempt, with full jitter, so that peers that failed together don't retry
/// together. `luck` is from 0 to 1.
pub(crate) fn next_attempt(failed: i64, now: Timestamp, luck: f64) -> Timestamp {
    let wait = schedule(failed).mul_f64(luck.clamp(0.0, 1.0));
    now.checked_add(wait).unwrap_or(Timestamp::MAX)
}

/// The time of a peer's next probe while its breaker is open. Half of the wait is fixed, so that
/// probes of a dead peer are never frequent; the wait is at most a minute, so that a peer that is
/// back is noticed soon.
pub(crate) fn next_probe(failures: i64, now: Timestamp, luck: f64) -> Timestamp {
    let longest = schedule(failures).min(Duration::from_secs(60));
    let wait = longest.mul_f64(0.5 + luck.clamp(0.0, 1.0) / 2.0);
    now.checked_add(wait).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_an_hour_and_stay_there() {
        let waits: Vec<_> = (1..=9).map(|failed| schedule(failed).as_secs()).collect();
        assert_eq!(waits, [1, 5, 30, 120, 600, 1800, 3600, 3600, 3600]);
        assert_eq!(schedule(i64::MAX).as_secs(), 3600);
    }

    #[test]
    fn jitter_spreads_over_the_whole_wait() {
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(next_attempt(2, now, 0.0), now);
        assert_eq!(next_attempt(2, now, 1.0).as_second(), 5);
        assert_eq!(next_attempt(2, now, 0.5).as_millisecond(), 2500);
    }

    #[test]
    fn a_probe_waits_at_least_half_and_at_most_a_minute() {
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(next_probe(1, now, 0.0).as_millisecond(), 500);
        assert_eq!(next_probe(9, now, 1.0).as_second(), 60);
    }
}
