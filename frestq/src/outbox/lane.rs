//! A lane: the delivery to one peer. It reads the messages that are due, keeps a limited number of
//! requests in flight, and submits the outcome of each message.

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

/// The number of concurrent batches to one peer: one is in flight while the next one fills.
const PARALLEL_BATCHES: usize = 2;

/// How often to check whether the process that delivers to a peer is still alive, in seconds.
const RECHECK_AFTER: u64 = 5;

/// The number of messages whose outcome is not committed yet. Beyond it, delivery waits for the
/// database.
const MAX_UNSETTLED: usize = 4096;

/// The size of the messages that are held in memory to be sent, in bytes. Others are read later.
const MAX_READY_BYTES: usize = 4 * 1024 * 1024;

/// The minimum wait before a retry, even if the peer's `Retry-After` is shorter.
const MIN_RETRY_AFTER: std::time::Duration = std::time::Duration::from_secs(1);

/// A report of a request to its lane.
enum Report {
    /// The request has ended, so another one may start: a smaller one, if this one was too large.
    /// `batches` tells whether the peer accepts batches, if the response shows it.
    Ended {
        too_large: bool,
        batches: Option<bool>,
    },
    /// The outcome of these messages is committed, or they must be retried.
    Settled {
        seqs: Vec<i64>,
        retry_at: Option<Timestamp>,
    },
}

/// The delivery to one peer.
pub(super) struct Lane {
    outbox: Arc<Outbox>,
    peer: PeerId,
    wakes: mpsc::UnboundedReceiver<WakeReason>,
    reports: (
        mpsc::UnboundedSender<Report>,
        mpsc::UnboundedReceiver<Report>,
    ),
    /// Messages that are read but not sent yet.
    ready: VecDeque<Arc<OutboxRow>>,
    ready_bytes: usize,
    /// Messages that are read, and whose outcome is not committed yet.
    unsettled: HashSet<i64>,
    /// All rows up to this one have been read, except those that are due later.
    cursor: i64,
    /// Whether there may be new rows after the cursor.
    more: bool,
    /// When the next row before the cursor is due.
    retry_at: Option<Timestamp>,
    in_flight: usize,
    batch_bytes: usize,
    /// Whether the peer accepts batches. False after it, or a proxy in front of it, has refused
    /// one, until it shows again that it supports them.
    accepts_batches: bool,
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
            in_flight: 0,
            batch_bytes,
            accepts_batches: true,
        }
    }

    /// Delivers until the peer stops.
    pub(super) async fn run(mut self) {
        loop {
            let wait_until = match self.send_due().await {
                Ok(until) => until,
                Err(error) => {
                    tracing::error!(target: "frestq::delivery", error = %error.with_causes(), "the outbox can't be read; retrying");
                    self.more = true;
                    Some(self.in_seconds(1))
                }
            };
            // Rows that are read but not sent are held back by the breaker: they wait for the next
            // start.
            let idle = self.in_flight == 0 && self.unsettled.len() == self.ready.len();
            // Only after the last wake: the dispatcher drops the sender once it has passed that
            // on.
            let closed = self.wakes.is_closed() && self.wakes.is_empty();
            if closed && idle {
                return;
            }
            let clock = self.outbox.clock.clone();
            tokio::select! {
                Some(report) = self.reports.1.recv() => self.handle_report(report),
                wake = self.wakes.recv(), if !closed => {
                    if let Some(reason) = wake {
                        self.wake(reason);
                    }
                }
                () = sleep(&clock, wait_until) => {}
            }
            // Handle everything that has arrived meanwhile before the next query.
            while let Ok(report) = self.reports.1.try_recv() {
                self.handle_report(report);
            }
            while let Ok(reason) = self.wakes.try_recv() {
                self.wake(reason);
            }
        }
    }

    fn in_seconds(&self, seconds: u64) -> Timestamp {
        let now = self.outbox.clock.now();
        now.checked_add(std::time::Duration::from_secs(seconds))
            .unwrap_or(now)
    }

    fn wake(&mut self, reason: WakeReason) {
        match reason {
            WakeReason::Stored(rows) => self.add_ready(rows),
            WakeReason::PeerIsBack => {}
            WakeReason::DueAt(at) => self.plan(at),
            WakeReason::Elsewhere => {
                self.cursor = 0;
                self.more = true;
                self.plan(self.outbox.clock.now());
            }
        }
    }

    /// Adds new rows without reading them from the outbox, unless there are unread rows before
    /// them, or too many.
    fn add_ready(&mut self, rows: Vec<Arc<OutboxRow>>) {
        let bytes: usize = rows.iter().map(|row| row.body.len()).sum();
        if self.more
            || self.ready_bytes + bytes > MAX_READY_BYTES
            || self.unsettled.len() > MAX_UNSETTLED
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

    fn handle_report(&mut self, report: Report) {
        match report {
            Report::Ended { too_large, batches } => {
                self.in_flight -= 1;
                self.accepts_batches = batches.unwrap_or(self.accepts_batches);
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

    /// Starts as many requests as are allowed. Returns when to check again, if nothing else
    /// happens.
    async fn send_due(&mut self) -> crate::Result<Option<Timestamp>> {
        let now = self.outbox.clock.now();
        if self.retry_at.is_some_and(|at| at <= now) {
            self.cursor = 0;
            self.more = true;
            self.retry_at = self.outbox.store.next_delivery(self.peer, now).await?;
        }
        loop {
            let peer = self.outbox.peers.get(&self.outbox.store, self.peer).await?;
            let breaker = reachability::breaker_state(&peer.health, now);
            let batches =
                peer.health.extensions && self.accepts_batches && self.outbox.config.batch > 1;
            let max_requests = match breaker {
                BreakerState::Open(at) => {
                    // Some of these messages may be obsolete by then.
                    self.drop_ready();
                    return Ok(Some(at));
                }
                BreakerState::HalfOpen => 1,
                BreakerState::Closed if batches => PARALLEL_BATCHES,
                BreakerState::Closed => self.outbox.config.parallel,
            };
            if self.in_flight >= max_requests {
                return Ok(None);
            }
            if self.ready.is_empty() && !self.more {
                return Ok(self.retry_at);
            }
            let (store, node) = (&self.outbox.store, self.outbox.node);
            if !store.claim_delivery(self.peer, node).await? {
                // Another process delivers to this peer. This one takes over if that process dies;
                // most messages that are ready here will have been delivered by then.
                self.drop_ready();
                return Ok(Some(self.in_seconds(RECHECK_AFTER)));
            }
            if self.ready.is_empty() {
                self.read(now).await?;
            }
            let max_messages = if batches && breaker == BreakerState::Closed {
                self.outbox.config.batch
            } else {
                1
            };
            let messages = self.next_messages(max_messages, now);
            if messages.is_empty() {
                return Ok(self.retry_at);
            }
            self.in_flight += 1;
            self.start(peer.url.clone(), messages);
        }
    }

    /// Drops the messages that were read but not sent; they are read again later.
    fn drop_ready(&mut self) {
        for row in self.ready.drain(..) {
            self.unsettled.remove(&row.seq);
        }
        self.ready_bytes = 0;
        self.cursor = 0;
        self.more = true;
    }

    /// Reads the messages after the cursor that are due.
    async fn read(&mut self, now: Timestamp) -> crate::Result<()> {
        let limit = self.outbox.config.batch.max(64);
        while self.more && self.ready.is_empty() && self.unsettled.len() < MAX_UNSETTLED {
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

    /// Takes up to `max` messages that fit into one request, and gives up expired ones.
    fn next_messages(&mut self, max: usize, now: Timestamp) -> Vec<Arc<OutboxRow>> {
        let (mut taken, mut given_up, mut bytes) = (Vec::<Arc<OutboxRow>>::new(), Vec::new(), 0);
        while let Some(next) = self.ready.front() {
            let obsolete = expired(next, now, self.outbox.config.give_up_after);
            let obsolete =
                obsolete.or_else(|| next.moot.then(|| "its task has ended before".into()));
            if obsolete.is_none() {
                bytes += next.body.len() + next.queue.len() + 64;
                let fits = match taken.first() {
                    // Only messages with the same pin may use the same connection.
                    Some(first) => bytes <= self.batch_bytes && first.pin == next.pin,
                    None => true,
                };
                if taken.len() >= max || !fits {
                    break;
                }
            }
            let Some(row) = self.ready.pop_front() else {
                break;
            };
            self.ready_bytes -= row.body.len();
            match obsolete {
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

    /// Starts a request with these messages.
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
            let outcomes = classify(&outbox, peer, exchange).await;
            // Fails only if the process ends: otherwise the lane outlives its requests.
            let _ = reports.send(Report::Ended { too_large, batches });
            settle(outbox, outcomes, reports).await;
        });
    }
}

async fn sleep(clock: &crate::runtime::clock::Clock, until: Option<Timestamp>) {
    match until {
        Some(at) => clock.sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Why a message has expired, if it has.
fn expired(row: &OutboxRow, now: Timestamp, give_up_after: std::time::Duration) -> Option<String> {
    match row.expires_at {
        Some(at) if at <= now => Some("not delivered before its expiration date".into()),
        Some(_) => None,
        None => {
            let is_over = row
                .created_at
                .checked_add(give_up_after)
                .is_ok_and(|at| at <= now);
            is_over.then(|| {
                format!(
                    "not delivered within {} hours",
                    give_up_after.as_secs() / 3600
                )
            })
        }
    }
}

/// Updates the peer's breaker after an exchange, and returns the outcome of each message.
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
    if let Err(error) = record_health(outbox, peer, &exchange, now).await {
        tracing::warn!(target: "frestq::peer", error = %error.with_causes(), "the health of a peer can't be stored");
    }
    match exchange {
        Exchange::Answered { replies, .. } => replies
            .into_iter()
            .map(|(message, reply)| outcome(message, reply, now))
            .collect(),
        Exchange::NoBatch { status, messages } => again_at(
            now,
            messages,
            status,
            "the peer does not accept batches now",
        ),
        // The breaker decides when to retry; the due date of the messages does not change.
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

/// Updates the health of the peer after an exchange.
async fn record_health(
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
            // A response of a proxy in front of the peer does not show what the peer supports.
            let shown = *extensions || replies.iter().any(|(_, reply)| *reply == Reply::Accepted);
            peers
                .update(store, peer, |health| {
                    reachability::record_success(health);
                    if shown {
                        health.extensions = *extensions;
                    }
                })
                .await
        }
        // The peer, or a proxy in front of it, answered, but accepts no batches now, or none of
        // this size. Its answer to a single message will show what it supports.
        Exchange::NoBatch { .. } => {
            peers
                .update(store, peer, reachability::record_success)
                .await
        }
        // This concerns only these messages. The peer's other messages must not wait for them.
        Exchange::NotPinned { .. } => Ok(()),
        Exchange::Failed { why, .. } => {
            peers
                .update(store, peer, |health| {
                    reachability::record_failure(health, why, now, fastrand::f64());
                })
                .await
        }
    }
}

/// The outcome of messages that are due again at a given time.
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

/// The outcome of a message by the peer's reply.
fn outcome(
    message: Arc<OutboxRow>,
    reply: Reply,
    now: Timestamp,
) -> (Arc<OutboxRow>, DeliveryOutcome) {
    let outcome = match reply {
        Reply::Accepted => DeliveryOutcome::Delivered,
        Reply::Refused { status, why } => DeliveryOutcome::Refused { status, why },
        Reply::Later {
            status,
            why,
            retry_after,
        } => {
            let at = match retry_after {
                Some(wait) => {
                    let wait = wait.max(MIN_RETRY_AFTER);
                    now.checked_add(wait).unwrap_or(Timestamp::MAX)
                }
                None => backoff::next_attempt(message.attempts + 1, now, fastrand::f64()),
            };
            DeliveryOutcome::Later { at, status, why }
        }
    };
    (message, outcome)
}

/// Commits the outcome of each message, then reports to the lane. Until then, none is sent again.
async fn settle(
    outbox: Arc<Outbox>,
    outcomes: Vec<(Arc<OutboxRow>, DeliveryOutcome)>,
    reports: mpsc::UnboundedSender<Report>,
) {
    let seqs = outcomes.iter().map(|(message, _)| message.seq).collect();
    let retry_at = outcomes.iter().filter_map(|(_, outcome)| match outcome {
        DeliveryOutcome::Later { at, .. } => Some(*at),
        _ => None,
    });
    let mut retry_at = retry_at.min();
    let events = outcomes
        .into_iter()
        .map(|(message, verdict)| Event::Delivery(Box::new(Delivery { message, verdict })));
    if outbox
        .commits
        .submit_patiently(events.collect())
        .await
        .is_err()
    {
        // The rows have not changed: they are sent again, and the peer deduplicates them.
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
    fn a_retry_after_of_zero_is_raised_to_the_minimum() {
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
