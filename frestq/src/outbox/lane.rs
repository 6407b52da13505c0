//! One peer's delivery: reads what is due, keeps a few requests under way, reports what became of
//! each message.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use jiff::Timestamp;
use tokio::sync::mpsc;

use super::context::Outbox;
use crate::peers::reachability::{self, BreakerState};
use crate::{
    engine::{Delivery, DeliveryOutcome, Event},
    http::client::{Exchange, Reply},
    model::{OutboxRow, PeerId, backoff, error::Result},
    runtime::notify::WakeReason,
};

/// Batches under way to one peer: one travels while the next one gathers.
const BATCHES: usize = 2;

/// How often to ask whether the process that delivers to a peer is still there, in seconds.
const LOOK_AGAIN: u64 = 5;

/// Messages whose fate is not yet on disk. Past this, delivery waits for the database.
const MOST_UNSETTLED: usize = 4096;

/// How many bytes of messages are kept to be sent; the others are read when their turn comes.
const MOST_READY: usize = 4 * 1024 * 1024;

/// A peer that asks us back at once, or in the past, is not asked again any sooner.
const SHORTEST_WAIT: std::time::Duration = std::time::Duration::from_secs(1);

/// What a request reports back to its lane.
enum Report {
    /// The request has ended and another may start; a smaller one, if this one was too large. Whether the
    /// peer takes batches, if this one tells.
    Free {
        too_large: bool,
        batches: Option<bool>,
    },
    /// The fate of these messages is on disk, or they are to be tried again.
    Settled {
        seqs: Vec<i64>,
        retry_at: Option<Timestamp>,
    },
}

pub(super) struct Lane {
    outbox: Arc<Outbox>,
    peer: PeerId,
    wakes: mpsc::UnboundedReceiver<WakeReason>,
    reports: (
        mpsc::UnboundedSender<Report>,
        mpsc::UnboundedReceiver<Report>,
    ),
    /// Read and not yet sent.
    ready: VecDeque<Arc<OutboxRow>>,
    ready_bytes: usize,
    /// Read, and their fate not yet on disk.
    unsettled: HashSet<i64>,
    /// Everything up to here has been read, but for what is due later.
    cursor: i64,
    /// New rows may stand behind the cursor.
    more: bool,
    /// When a row before the cursor is due.
    retry_at: Option<Timestamp>,
    requests: usize,
    batch_bytes: usize,
    /// Not after it, or a proxy in its place, has refused one, until it shows again that it reads them.
    takes_batches: bool,
}

impl Lane {
    pub(super) fn new(
        outbox: Arc<Outbox>,
        peer: PeerId,
        wakes: mpsc::UnboundedReceiver<WakeReason>,
    ) -> Self {
        let batch_bytes = outbox.batch_bytes;
        Self {
            outbox,
            peer,
            wakes,
            reports: mpsc::unbounded_channel(),
            ready: VecDeque::new(),
            ready_bytes: 0,
            unsettled: HashSet::new(),
            cursor: 0,
            more: false,
            retry_at: None,
            requests: 0,
            batch_bytes,
            takes_batches: true,
        }
    }

    /// Delivers until the peer stops.
    pub(super) async fn run(mut self) {
        loop {
            let wait_until = match self.send_what_is_due().await {
                Ok(until) => until,
                Err(error) => {
                    tracing::error!(error = %error.with_causes(), "the outbox can't be read; trying again");
                    self.more = true;
                    Some(self.later(1))
                }
            };
            // Rows that are read but not sent are held back by the breaker; they wait for the next start.
            let idle = self.requests == 0 && self.unsettled.len() == self.ready.len();
            // Not before every wake is in: the dispatcher lets go of the lane once it has passed on the last one.
            let closed = self.wakes.is_closed() && self.wakes.is_empty();
            if closed && idle {
                return;
            }
            let clock = self.outbox.clock.clone();
            tokio::select! {
                Some(report) = self.reports.1.recv() => self.note(report),
                wake = self.wakes.recv(), if !closed => {
                    if let Some(reason) = wake {
                        self.wake(reason);
                    }
                }
                () = sleep(&clock, wait_until) => {}
            }
            // Whatever else has come in meanwhile, before the next look at the database.
            while let Ok(report) = self.reports.1.try_recv() {
                self.note(report);
            }
            while let Ok(reason) = self.wakes.try_recv() {
                self.wake(reason);
            }
        }
    }

    fn later(&self, seconds: u64) -> Timestamp {
        let now = self.outbox.clock.now();
        now.checked_add(std::time::Duration::from_secs(seconds))
            .unwrap_or(now)
    }

    fn wake(&mut self, reason: WakeReason) {
        match reason {
            WakeReason::Stored(rows) => self.take_over(rows),
            WakeReason::PeerIsBack => {}
            WakeReason::DueAt(at) => self.plan(at),
            WakeReason::Elsewhere => {
                self.cursor = 0;
                self.more = true;
                self.plan(self.outbox.clock.now());
            }
        }
    }

    /// New rows come along with the news of them, and are read from the outbox only if there are
    /// others before them, or too many.
    fn take_over(&mut self, rows: Vec<Arc<OutboxRow>>) {
        let bytes: usize = rows.iter().map(|row| row.body.len()).sum();
        if self.more
            || self.ready_bytes + bytes > MOST_READY
            || self.unsettled.len() > MOST_UNSETTLED
        {
            self.more = true;
            return;
        }
        for row in rows {
            self.cursor = self.cursor.max(row.seq);
            if self.unsettled.insert(row.seq) {
                self.ready_bytes += row.body.len();
                self.ready.push_back(row);
            }
        }
    }

    fn plan(&mut self, at: Timestamp) {
        self.retry_at = Some(self.retry_at.map_or(at, |planned| planned.min(at)));
    }

    fn note(&mut self, report: Report) {
        match report {
            Report::Free { too_large, batches } => {
                self.requests -= 1;
                self.takes_batches = batches.unwrap_or(self.takes_batches);
                if too_large {
                    self.batch_bytes /= 2;
                }
            }
            Report::Settled { seqs, retry_at } => {
                for seq in seqs {
                    self.unsettled.remove(&seq);
                }
                if let Some(at) = retry_at {
                    self.plan(at);
                }
            }
        }
    }

    /// Starts as many requests as may be under way; gives the moment to look again, if nothing
    /// else happens.
    async fn send_what_is_due(&mut self) -> crate::Result<Option<Timestamp>> {
        let now = self.outbox.clock.now();
        if self.retry_at.is_some_and(|at| at <= now) {
            self.cursor = 0;
            self.more = true;
            self.retry_at = self.outbox.store.next_delivery(self.peer, now).await?;
        }
        loop {
            let peer = self.outbox.peers.get(&self.outbox.store, self.peer).await?;
            let gate = reachability::gate(&peer.health, now);
            let batches =
                peer.health.extensions && self.takes_batches && self.outbox.config.batch > 1;
            let most = match gate {
                BreakerState::Closed(at) => {
                    // By then some of it may not be wanted any more.
                    self.forget();
                    return Ok(Some(at));
                }
                BreakerState::Probe => 1,
                BreakerState::Open if batches => BATCHES,
                BreakerState::Open => self.outbox.config.parallel,
            };
            if self.requests >= most {
                return Ok(None);
            }
            if self.ready.is_empty() && !self.more {
                return Ok(self.retry_at);
            }
            let (store, node) = (&self.outbox.store, self.outbox.node);
            if !store.claim_delivery(self.peer, node).await? {
                // Another process delivers to this peer; its messages may be ours some day. By then
                // most of what waits here will have been delivered.
                self.forget();
                return Ok(Some(self.later(LOOK_AGAIN)));
            }
            if self.ready.is_empty() {
                self.read(now).await?;
            }
            let most = if batches && gate == BreakerState::Open {
                self.outbox.config.batch
            } else {
                1
            };
            let messages = self.take(most, now);
            if messages.is_empty() {
                return Ok(self.retry_at);
            }
            self.requests += 1;
            self.start(peer.url.clone(), messages);
        }
    }

    /// Forgets what was read and not sent, to be read again.
    fn forget(&mut self) {
        for row in self.ready.drain(..) {
            self.unsettled.remove(&row.seq);
        }
        self.ready_bytes = 0;
        self.cursor = 0;
        self.more = true;
    }

    /// Reads what is due behind the cursor.
    async fn read(&mut self, now: Timestamp) -> crate::Result<()> {
        let limit = self.outbox.config.batch.max(64);
        while self.more && self.ready.is_empty() && self.unsettled.len() < MOST_UNSETTLED {
            let limit_rows = i64::try_from(limit).unwrap_or(i64::MAX);
            let store = &self.outbox.store;
            let rows = store
                .pending(self.peer, self.cursor, now, limit_rows)
                .await?;
            self.more = rows.len() == limit;
            for row in rows {
                self.cursor = row.seq;
                if self.unsettled.insert(row.seq) {
                    self.ready_bytes += row.body.len();
                    self.ready.push_back(Arc::new(row));
                }
            }
        }
        Ok(())
    }

    /// Up to `most` messages that fit into one request; gives up what is too old.
    fn take(&mut self, most: usize, now: Timestamp) -> Vec<Arc<OutboxRow>> {
        let (mut taken, mut given_up, mut bytes) = (Vec::<Arc<OutboxRow>>::new(), Vec::new(), 0);
        while let Some(next) = self.ready.front() {
            let late = too_late(next, now, self.outbox.config.give_up_after);
            let late = late.or_else(|| next.moot.then(|| "its task has ended before".into()));
            if late.is_none() {
                bytes += next.body.len() + next.queue.len() + 64;
                let fits = match taken.first() {
                    // Only messages with the same pin may go by the same connection.
                    Some(first) => bytes <= self.batch_bytes && first.pin == next.pin,
                    None => true,
                };
                if taken.len() >= most || !fits {
                    break;
                }
            }
            let Some(row) = self.ready.pop_front() else {
                break;
            };
            self.ready_bytes -= row.body.len();
            match late {
                Some(why) => given_up.push((row, DeliveryOutcome::GivenUp { why })),
                None => taken.push(row),
            }
        }
        if !given_up.is_empty() {
            let settling = settle(self.outbox.clone(), given_up, self.reports.0.clone());
            tokio::spawn(settling);
        }
        taken
    }

    fn start(&mut self, url: crate::model::PeerUrl, messages: Vec<Arc<OutboxRow>>) {
        let (outbox, peer, reports) = (self.outbox.clone(), self.peer, self.reports.0.clone());
        tokio::spawn(async move {
            let exchange = match <[_; 1]>::try_from(messages) {
                Ok([message]) => outbox.client.post(&url, message).await,
                Err(messages) => {
                    outbox
                        .client
                        .post_batch(&url, &outbox.own_url, messages)
                        .await
                }
            };
            let too_large = matches!(exchange, Exchange::NoBatch { status: 413, .. });
            let batches = match &exchange {
                Exchange::NoBatch { .. } if !too_large => Some(false),
                Exchange::Answered { extensions, .. } if *extensions => Some(true),
                _ => None,
            };
            let verdicts = classify(&outbox, peer, exchange).await;
            // The lane outlives its requests, but for the end of the process.
            let _ = reports.send(Report::Free { too_large, batches });
            settle(outbox, verdicts, reports).await;
        });
    }
}

async fn sleep(clock: &crate::runtime::clock::Clock, until: Option<Timestamp>) {
    match until {
        Some(at) => clock.sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Why a message is not worth another attempt, if so.
fn too_late(row: &OutboxRow, now: Timestamp, give_up_after: std::time::Duration) -> Option<String> {
    match row.expires_at {
        Some(at) if at <= now => Some("not delivered before its time was over".into()),
        Some(_) => None,
        None => {
            let over = row
                .created_at
                .checked_add(give_up_after)
                .is_ok_and(|at| at <= now);
            over.then(|| {
                format!(
                    "not delivered within {} hours",
                    give_up_after.as_secs() / 3600
                )
            })
        }
    }
}

/// What the exchange means for the peer's breaker and for each message.
async fn classify(
    outbox: &Outbox,
    peer: PeerId,
    exchange: Exchange,
) -> Vec<(Arc<OutboxRow>, DeliveryOutcome)> {
    let now = outbox.clock.now();
    if !matches!(
        exchange,
        Exchange::Failed { .. } | Exchange::NotPinned { .. }
    ) {
        outbox.peers.answered(peer, now);
    }
    if let Err(error) = note_health(outbox, peer, &exchange, now).await {
        tracing::warn!(error = %error.with_causes(), "the health of a peer could not be written");
    }
    match exchange {
        Exchange::Answered { replies, .. } => replies
            .into_iter()
            .map(|(message, reply)| outcome(message, reply, now))
            .collect(),
        Exchange::NoBatch { status, messages } => {
            again_at(now, messages, status, "the peer does not take batches now")
        }
        // The breaker decides when to try again; the message itself is due as before.
        Exchange::Failed { messages, why } => again_at(now, messages, 0, &why),
        Exchange::NotPinned { messages, why } => {
            let later = |message: Arc<OutboxRow>| {
                let reply = Reply::Later {
                    status: 0,
                    why: why.clone(),
                    retry_after: None,
                };
                outcome(message, reply, now)
            };
            messages.into_iter().map(later).collect()
        }
    }
}

/// What the exchange says about the peer itself.
async fn note_health(
    outbox: &Outbox,
    peer: PeerId,
    exchange: &Exchange,
    now: Timestamp,
) -> Result<()> {
    let (peers, store) = (&outbox.peers, &outbox.store);
    match exchange {
        Exchange::Answered {
            replies,
            extensions,
        } => {
            // A proxy that answers in the peer's place does not show what the peer reads.
            let shown = *extensions || replies.iter().any(|(_, reply)| *reply == Reply::Accepted);
            peers
                .update(store, peer, |health| {
                    reachability::reached(health);
                    if shown {
                        health.extensions = *extensions;
                    }
                })
                .await
        }
        // The peer answered, or a proxy in its place, and takes no batches now, or none of this size.
        // What else it reads, its answer to a single message shows.
        Exchange::NoBatch { .. } => peers.update(store, peer, reachability::reached).await,
        // This concerns the messages and not the peer, whose other messages must not wait for them.
        Exchange::NotPinned { .. } => Ok(()),
        Exchange::Failed { why, .. } => {
            peers
                .update(store, peer, |health| {
                    reachability::failed(health, why, now, fastrand::f64());
                })
                .await
        }
    }
}

/// All of them are due again at that time.
fn again_at(
    at: Timestamp,
    messages: Vec<Arc<OutboxRow>>,
    status: u16,
    why: &str,
) -> Vec<(Arc<OutboxRow>, DeliveryOutcome)> {
    let later = |message| {
        let why = why.to_owned();
        (message, DeliveryOutcome::Later { at, status, why })
    };
    messages.into_iter().map(later).collect()
}

fn outcome(
    message: Arc<OutboxRow>,
    reply: Reply,
    now: Timestamp,
) -> (Arc<OutboxRow>, DeliveryOutcome) {
    let verdict = match reply {
        Reply::Accepted => DeliveryOutcome::Delivered,
        Reply::Refused { status, why } => DeliveryOutcome::Refused { status, why },
        Reply::Later {
            status,
            why,
            retry_after,
        } => {
            let at = match retry_after {
                Some(wait) => {
                    let wait = wait.max(SHORTEST_WAIT);
                    now.checked_add(wait).unwrap_or(Timestamp::MAX)
                }
                None => backoff::next_attempt(message.attempts + 1, now, fastrand::f64()),
            };
            DeliveryOutcome::Later { at, status, why }
        }
    };
    (message, verdict)
}

/// Writes down what became of each message, and tells the lane. Until it is written, nothing is
/// sent again.
async fn settle(
    outbox: Arc<Outbox>,
    verdicts: Vec<(Arc<OutboxRow>, DeliveryOutcome)>,
    reports: mpsc::UnboundedSender<Report>,
) {
    let seqs = verdicts.iter().map(|(message, _)| message.seq).collect();
    let retry_at = verdicts.iter().filter_map(|(_, verdict)| match verdict {
        DeliveryOutcome::Later { at, .. } => Some(*at),
        _ => None,
    });
    let mut retry_at = retry_at.min();
    let events = verdicts
        .into_iter()
        .map(|(message, verdict)| Event::Delivery(Box::new(Delivery { message, verdict })));
    if outbox
        .commits
        .submit_patiently(events.collect())
        .await
        .is_err()
    {
        // The rows are as they were: they are sent again, and the peer knows them by their ids.
        retry_at = Some(outbox.clock.now());
    }
    let _ = reports.send(Report::Settled { seqs, retry_at });
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn row() -> Arc<OutboxRow> {
        Arc::new(OutboxRow {
            seq: 1,
            peer: PeerId(1),
            message: "m".into(),
            queue: "q".into(),
            action: "a".into(),
            task: "t".into(),
            carries_task: true,
            pin: None,
            body: "{}".into(),
            expires_at: None,
            attempts: 0,
            due_at: Timestamp::UNIX_EPOCH,
            created_at: Timestamp::UNIX_EPOCH,
            moot: false,
        })
    }

    #[test]
    fn a_peer_that_asks_us_back_at_once_is_not_hammered() {
        let wait = |seconds| {
            let reply = Reply::Later {
                status: 503,
                why: String::new(),
                retry_after: Some(Duration::from_secs(seconds)),
            };
            match outcome(row(), reply, Timestamp::UNIX_EPOCH).1 {
                DeliveryOutcome::Later { at, .. } => at.as_second(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!((wait(0), wait(7)), (1, 7));
    }
}
