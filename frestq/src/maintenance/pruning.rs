//! What ended long ago goes: `--prune AGE`, and `retention` by itself.
//!
//! A tree goes as a whole, once all of it has ended and been left alone for so long, and no message
//! about it is on its way. Its messages go after it. Of a task that another peer knows there stays a
//! *tombstone*, its row without what it held: so a late or repeated message about it is answered as
//! before, and nothing runs twice. The record that a message was accepted outlives every attempt to
//! deliver it again, twice over.
//!
//! All of it happens in small steps, each a transaction of the committer's, between which others have
//! their turn.

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

/// How many rows go in one transaction.
const AT_ONCE: usize = 500;

/// How long the record of an accepted message stays at least.
const DEDUPED: Duration = Duration::from_secs(14 * 24 * 3600);

/// A peer that has just started has other things to do.
const AFTER_START: Duration = Duration::from_secs(10);

/// How often `retention` is seen to.
const EVERY: Duration = Duration::from_secs(3600);

/// What it takes to prune.
pub(crate) struct Pruning<'a> {
    pub(crate) store: &'a Store,
    pub(crate) commits: &'a CommitQueue,
    /// How long a message is tried.
    pub(crate) give_up_after: Duration,
}

impl Pruning<'_> {
    /// Removes what has ended and was last changed longer ago than `age`.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if no date is so long ago; those of the database, after which what is gone
    /// so far stays gone.
    pub(crate) async fn prune(&self, age: Duration, now: Timestamp, by: &str) -> Result<Pruned> {
        let before = now.checked_sub(age).map_err(|_| {
            Error::Invalid(format!(
                "{} ago is before the first date there is",
                format_duration(age)
            ))
        })?;
        let kept = DEDUPED.max(self.give_up_after.saturating_mul(2)).max(age);
        // Before the first date there is nothing to forget.
        let forgotten = now.checked_sub(kept).unwrap_or(Timestamp::MIN);
        let entry = Entry::decided(now, by, "prune", &format_duration(age).to_string());
        let mut work = Work {
            commits: self.commits,
            entry: Some(entry.answered(&format!("what ended before {before} goes"))),
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
            let page = self.store.old_received(before, forgotten, place).await?;
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
            // A tree larger than that goes from below, its root last, so that what is left of it is
            // found again if it ends here.
            for some in tasks.chunks(AT_ONCE) {
                work.step(Step::Tasks(some.to_vec(), before)).await?;
            }
        }
    }
}

/// What has been done so far.
struct Work<'a> {
    commits: &'a CommitQueue,
    /// For the audit, until the first thing went.
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
            emptied => write!(
                f,
                ", and {}, to be told from repetitions",
                count(emptied, "message")
            ),
        }
    }
}

/// Prunes by itself what is older than `retention`, if that is set.
pub(crate) async fn tend(services: &Services) {
    let (config, clock) = (&services.config, &services.clock);
    let Some(age) = config.retention else {
        return;
    };
    let pruning = Pruning {
        store: &services.store,
        commits: &services.commits,
        give_up_after: config.delivery.give_up_after,
    };
    let mut wait = AFTER_START;
    loop {
        // No date is so far away.
        let until = clock.now().checked_add(wait).unwrap_or(Timestamp::MAX);
        clock.sleep_until(until).await;
        match pruning.prune(age, clock.now(), "retention").await {
            Ok(pruned) if pruned.is_nothing() => {}
            Ok(pruned) => tracing::info!("by retention: {pruned}"),
            Err(error) => {
                tracing::warn!(error = %error.with_causes(), "what is older than `retention` can't be removed; trying again");
            }
        }
        wait = EVERY;
    }
}
