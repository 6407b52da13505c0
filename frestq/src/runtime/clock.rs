//! The clock, injected, so that tests control the time. No module below reads a clock of its own.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::sync::watch;

/// The longest sleep before the date is checked again. Sleeps use the monotonic clock, which stops
/// while the machine is suspended and doesn't follow changes of the date.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

/// The source of the time: the system, or a clock that a test advances.
#[derive(Clone, Debug, Default)]
pub(crate) struct Clock(Option<Arc<watch::Sender<Timestamp>>>);

impl Clock {
    /// A clock that stands still until a test advances it.
    #[cfg(test)]
    pub(crate) fn manual(start: Timestamp) -> Self {
        Self(Some(Arc::new(watch::Sender::new(start))))
    }

    /// Advances a manual clock.
    #[cfg(test)]
    pub(crate) fn advance(&self, by: Duration) {
        let clock = self
            .0
            .as_ref()
            .expect("only a manual clock can be advanced");
        clock.send_modify(|now| *now += by);
    }

    /// The time, in microseconds, the precision of the database.
    pub(crate) fn now(&self) -> Timestamp {
        match &self.0 {
            None => truncate(Timestamp::now()),
            Some(manual) => *manual.borrow(),
        }
    }

    /// Returns once the time `at` has come.
    pub(crate) async fn sleep_until(&self, at: Timestamp) {
        match &self.0 {
            None => loop {
                let wait = at.duration_since(Timestamp::now());
                let wait = Duration::try_from(wait).unwrap_or_default();
                tokio::time::sleep(wait.min(LONGEST_SLEEP)).await;
                if wait <= LONGEST_SLEEP {
                    return;
                }
            },
            Some(manual) => {
                // The sender lives as long as `self`, so waiting can't fail.
                let _ = manual.subscribe().wait_for(|now| *now >= at).await;
            }
        }
    }
}

fn truncate(at: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_manual_clock_stands_still_until_it_is_advanced() {
        let clock = Clock::manual(Timestamp::UNIX_EPOCH);
        assert_eq!(clock.now(), Timestamp::UNIX_EPOCH);
        let hour = Duration::from_secs(3600);
        clock.advance(hour);
        assert_eq!(clock.now(), Timestamp::UNIX_EPOCH + hour);
        clock.sleep_until(Timestamp::UNIX_EPOCH + hour).await;
    }
}
