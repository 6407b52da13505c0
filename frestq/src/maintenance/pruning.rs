//! Pruning: removes old tasks and messages, by `--prune AGE` or automatically by `retention`.
//!
//! A tree is removed as a whole, once all of it has ended, has not changed for the given age, and
//! has no pending messages. Its messages are removed after it. A task that another peer knows
//! leaves a *tombstone*: its row without payloads, so that a late or repeated message about it
//! gets the same answer as before, and nothing runs twice. Deduplication records are kept twice as
//! long as the sender retries, and at least 14 days.
//!
//! Pruning works in small steps. Each is a transaction of the committer, which handles other
//! events in between.

use std::{fmt, time::Duration};

use humantime_serde::re::humantime::format_duration;
use jiff::Timestamp;

use crate::{
    commit::queue::CommitQueue,
    model::{
        audit::Entry,
        error::{Error, Result},
    },
    services::Services,
    store::{Page, Place, Pruned, Step, Store},
};

/// The number of rows that one transaction removes.
const BATCH: usize = 500;

/// The minimum time for which deduplication records are kept.
const DEDUPLICATION: Duration = Duration::from_secs(14 * 24 * 3600);

/// The delay of the first automatic pruning after the start.
const START_DELAY: Duration = Duration::from_secs(10);

/// The interval of automatic pruning.
const INTERVAL: Duration = Duration::from_secs(3600);

/// A pruning run: what it needs.
pub(crate) struct Pruning<'a> {
    pub(crate) store: &'a Store,
    pub(crate) commits: &'a CommitQueue,
    /// How long delivery of a message is retried.
    pub(crate) give_up_after: Duration,
}

impl Pruning<'_> {
    /// Removes tasks that have ended and were last changed longer ago than `age`.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if `age` reaches back before the first date; errors of the database,
    /// which don't undo the steps before them.
    pub(crate) async fn prune(&self, age: Duration, now: Timestamp, by: &str) -> Result<Pruned> {
        let before = now.checked_sub(age).map_err(|_| {
            Error::Invalid(format!(
                "{} ago is before the first date that can be represented",
                format_duration(age)
            ))
        })?;
        let kept = DEDUPLICATION
            .max(self.give_up_after.saturating_mul(2))
            .max(age);
        // Before the first date there are no records.
        let deduplicated_before = now.checked_sub(kept).unwrap_or(Timestamp::MIN);
        let entry = Entry::decided(now, by, "prune", &format_duration(age).to_string());
        let mut work = Work {
            commits: self.commits,
            entry: Some(entry.answered(&format!("removing what ended before {before}"))),
            pruned: Pruned::default(),
        };
        self.tasks(before, &mut work).await?;
        let mut after = Some(0);
        while let Some(place) = after {
            let Page { gone, next, .. } = self.store.old_sent(before, place).await?;
            if !gone.is_empty() {
                work.step(Step::Sent(gone)).await?;
            }
            after = next;
        }
        let mut after = Some(0);
        while let Some(place) = after {
            let page = self
                .store
                .old_received(before, deduplicated_before, place)
                .await?;
            let Page {
                gone,
                emptied,
                next,
            } = page;
            if !gone.is_empty() || !emptied.is_empty() {
                work.step(Step::Received { gone, emptied }).await?;
            }
            after = next;
        }
        Ok(work.pruned)
    }

    async fn tasks(&self, before: Timestamp, work: &mut Work<'_>) -> Result<()> {
        let mut place = Place::FIRST;
        loop {
            let trees = self.store.ended_trees(before, place).await?;
            let Some(last) = trees.last() else {
                return Ok(());
            };
            place = last.place;
            let tasks: Vec<i64> = trees.into_iter().flat_map(|tree| tree.tasks).collect();
            // A larger tree is removed from the leaves up, its root last, so that the rest of it
            // is found again if the process dies in between.
            for batch in tasks.chunks(BATCH) {
                work.step(Step::Tasks(batch.to_vec(), before)).await?;
            }
        }
    }
}

/// The progress of a pruning run.
struct Work<'a> {
    commits: &'a CommitQueue,
    /// The audit entry, until the first removal.
    entry: Option<Entry>,
    pruned: Pruned,
}

impl Work<'_> {
    async fn step(&mut self, step: Step) -> Result<()> {
        let pruned = self.commits.prune(step, self.entry.clone()).await?;
        if !pruned.is_nothing() {
            self.entry = None;
        }
        self.pruned += pruned;
        Ok(())
    }
}

impl fmt::Display for Pruned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |number: u64, what: &str| match number {
            1 => format!("1 {what}"),
            number => format!("{number} {what}s"),
        };
        write!(
            f,
            "pruned {} and {}; {} emptied, since other peers know them",
            count(self.removed, "task"),
            count(self.messages, "message"),
            count(self.tombstones, "task"),
        )?;
        match self.emptied {
            0 => Ok(()),
            emptied => write!(f, ", and {}, for deduplication", count(emptied, "message")),
        }
    }
}

/// Prunes automatically what is older than `retention`, if that is set.
pub(crate) async fn run(services: &Services) {
    let (config, clock) = (&services.config, &services.clock);
    let Some(age) = config.retention else {
        return;
    };
    let pruning = Pruning {
        store: &services.store,
        commits: &services.commits,
        give_up_after: config.delivery.give_up_after,
    };
    let mut wait = START_DELAY;
    loop {
        // The sum can't exceed the last date.
        let until = clock.now().checked_add(wait).unwrap_or(Timestamp::MAX);
        clock.sleep_until(until).await;
        match pruning.prune(age, clock.now(), "retention").await {
            Ok(pruned) if pruned.is_nothing() => {}
            Ok(pruned) => tracing::info!(target: "frestq::maintenance", "retention: {pruned}"),
            Err(error) => {
                tracing::warn!(
                    target: "frestq::maintenance",
                    error = %error.with_causes(),
                    "tasks older than `retention` can't be removed; retrying"
                );
            }
        }
        wait = INTERVAL;
    }
}
