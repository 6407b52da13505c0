//! The way in: parse, identify, admit, one transaction, answer. Nothing that is refused is stored.

mod identity;

use std::{str, time::Duration};

use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::{
    admission::Permit,
    engine::{Answer, Event, Received, Update, What},
    error::Error,
    message::Message,
    model::{
        Evidence, Fingerprint, InboxKey, InboxRow, Json, NewTask, PeerId, PeerUrl, Role, TaskId,
        TaskKind, TaskState, to_json,
    },
    outbox::reached,
    peer::Frestq,
    registry::{HandlerKind, Registration},
    signals::WakeReason,
    trust::{Cause, Member},
    wire::{
        BATCH, CANCEL_RESERVATION, CANCEL_TASK, CONFIRM_RESERVATION, EXECUTE_SYNCHRONIZED,
        INTERNAL_QUEUE, REFUSE_RESERVATION, SYNCHRONIZE_TASK, UPDATE_TASK,
        message::{BatchAnswer, ConfirmData, Envelope, PerformData, UpdateData, parse_batch},
    },
};

pub(crate) use identity::{Guest, identify};

/// How long a message waits for its transaction before its sender is asked to come back. It may
/// still be stored after that; the sender's next attempt then gets the same answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// The most messages in one `frestq.batch`.
const LONGEST_BATCH: usize = 1000;

/// The answer to a request.
#[derive(Debug)]
pub(crate) enum Response {
    /// 200: stored.
    Accepted,
    /// 200 with one answer for each message of a batch.
    Batch(Vec<BatchAnswer>),
    /// Anything else, with the words for the sender.
    Refused(Refusal),
}

/// Why a message is not taken.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) message: String,
}

impl Refusal {
    fn new(status: u16, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }
}

/// Takes one request for `queue`. `extensions`: its sender shows that it reads ours.
pub(crate) async fn receive(
    peer: &Frestq,
    guest: &Guest,
    queue: &str,
    body: &[u8],
    extensions: bool,
) -> Response {
    match take(peer, guest, queue, body, extensions).await {
        Ok(response) => response,
        Err(refusal) => {
            tracing::debug!(
                queue,
                status = refusal.status,
                "a message was refused: {}",
                refusal.message
            );
            Response::Refused(refusal)
        }
    }
}

async fn take(
    peer: &Frestq,
    guest: &Guest,
    queue: &str,
    body: &[u8],
    extensions: bool,
) -> Result<Response, Refusal> {
    let member = guest.member.as_deref();
    let text = str::from_utf8(body)
        .map_err(|e| Refusal::new(400, format!("the body is not UTF-8: {e}")))?;
    let envelope = Envelope::parse(text).map_err(|why| Refusal::new(400, why))?;
    if let Some(member) = member.filter(|member| !is_at(peer, &member.url, &envelope.sender)) {
        let cause = Cause::ForeignSender(member.name.clone());
        peer.0.trust.refusals.note(cause);
        let why = "`sender_url` is not the address that is registered for this certificate";
        return Err(Refusal::new(403, why));
    }
    if let Some(full) = peer.0.admission.refuse_message() {
        return Err(Refusal::new(503, full));
    }
    let sender = Sender {
        url: match member {
            // It may have said a former one.
            Some(member) => member.url.clone(),
            None => envelope.sender.clone(),
        },
        extensions,
        member,
        certificate: guest.certificate,
    };
    let known = sender.recognize(peer).await?;
    if queue == INTERNAL_QUEUE && envelope.action == BATCH {
        return take_batch(peer, &sender, known, &envelope)
            .await
            .map(Response::Batch);
    }
    // Held until the answer is known.
    let (event, _permit) = understand(peer, &sender, known, queue, text, envelope)?;
    let mut events = vec![event];
    sender.sign(peer, known, &mut events).await?;
    let answers = commit(peer, events, text.len()).await?;
    match answers.into_iter().next() {
        Some(answer) => judge(answer).map(|()| Response::Accepted),
        None => Err(Refusal::new(503, "no answer from the database")),
    }
}

/// Each message of a batch is accepted or refused on its own; all that can be are stored together.
async fn take_batch(
    peer: &Frestq,
    sender: &Sender<'_>,
    known: Option<PeerId>,
    batch: &Envelope,
) -> Result<Vec<BatchAnswer>, Refusal> {
    let entries = parse_batch(&batch.data).map_err(|why| Refusal::new(400, why))?;
    if entries.len() > LONGEST_BATCH {
        return Err(Refusal::new(
            413,
            format!(
                "{} messages in a batch; at most {LONGEST_BATCH}",
                entries.len()
            ),
        ));
    }
    let (mut events, mut permits, mut results) = (Vec::new(), Vec::new(), Vec::new());
    for entry in entries {
        let understood = Envelope::parse(entry.message.get())
            .map_err(|why| (message_id(&entry.message), Refusal::new(400, why)));
        let understood = understood.and_then(|envelope| {
            let id = envelope.message_id.to_string();
            if !is_at(peer, &batch.sender, &envelope.sender) {
                let why = "field `sender_url` is not the one of the batch";
                return Err((id, Refusal::new(403, why)));
            }
            let text = entry.message.get();
            match understand(peer, sender, known, &entry.queue, text, envelope) {
                Ok((event, permit)) => {
                    permits.extend(permit);
                    Ok((id, event))
                }
                Err(refusal) => Err((id, refusal)),
            }
        });
        results.push(match understood {
            Ok((id, event)) => {
                events.push(event);
                (id, Ok(()))
            }
            Err((id, refusal)) => (id, Err(refusal)),
        });
    }
    let mut answers = if events.is_empty() {
        Vec::new()
    } else {
        sender.sign(peer, known, &mut events).await?;
        commit(peer, events, batch.data.get().len()).await?
    }
    .into_iter();
    drop(permits);
    let answer = |(message_id, understood): (String, Result<(), Refusal>)| {
        let result = understood.and_then(|()| match answers.next() {
            Some(answer) => judge(answer),
            None => Err(Refusal::new(503, "no answer from the database")),
        });
        match result {
            Ok(()) => BatchAnswer {
                message_id,
                status: 200,
                message: None,
            },
            Err(Refusal { status, message }) => BatchAnswer {
                message_id,
                status,
                message: Some(message),
            },
        }
    };
    Ok(results.into_iter().map(answer).collect())
}

/// The id of a message that is otherwise not of the format, so that its sender knows which one the
/// answer is for.
fn message_id(message: &RawValue) -> String {
    #[derive(serde::Deserialize)]
    struct Identified {
        message_id: String,
    }
    serde_json::from_str(message.get())
        .map(|identified: Identified| identified.message_id)
        .unwrap_or_default()
}

/// Who sent it. Without configured peers everybody on the loopback is who he says he is, and becomes
/// known with the first message that makes sense; one that is refused leaves no trace.
struct Sender<'a> {
    url: PeerUrl,
    extensions: bool,
    /// The registered peer; none in open mode.
    member: Option<&'a Member>,
    /// What it has shown.
    certificate: Option<Fingerprint>,
}

impl Sender<'_> {
    /// Its row, if it is known; then it is noted that it is there.
    async fn recognize(&self, peer: &Frestq) -> Result<Option<PeerId>, Refusal> {
        let known = peer.0.peers.by_url(&self.url);
        if let Some(id) = known {
            self.note(peer, id).await?;
        }
        Ok(known)
    }

    /// Writes the sender's certificate and its row, made if need be, into events that were understood
    /// without them.
    async fn sign(
        &self,
        peer: &Frestq,
        known: Option<PeerId>,
        events: &mut [Event],
    ) -> Result<(), Refusal> {
        for event in events.iter_mut() {
            let Event::Receive(received) = event else {
                continue;
            };
            received.certificate = self.certificate;
            if let What::Task(task) | What::Synchronize(task) = &mut received.what {
                task.state.certificate = self.certificate;
            }
        }
        if known.is_some() {
            return Ok(());
        }
        let found = peer.0.peers.find_or_add(&peer.0.store, &self.url).await;
        let id = found.map_err(|error| overloaded(&error))?;
        self.note(peer, id).await?;
        for event in events {
            let Event::Receive(received) = event else {
                continue;
            };
            received.row.key.peer = id;
            if let What::Task(task) | What::Synchronize(task) = &mut received.what {
                task.state.peer = id;
            }
        }
        Ok(())
    }

    /// It spoke to us, so it is there, and reads what this request shows that it reads.
    async fn note(&self, peer: &Frestq, id: PeerId) -> Result<(), Refusal> {
        peer.0.peers.heard(id, peer.0.clock.now());
        let was_away = peer
            .0
            .peers
            .by_id(id)
            .is_some_and(|row| row.health.failures > 0);
        let noted = peer.0.peers.update(&peer.0.store, id, |health| {
            health.extensions = self.extensions;
            reached(health);
        });
        noted.await.map_err(|error| overloaded(&error))?;
        if was_away {
            peer.0.signals.wake_outbox(id, WakeReason::PeerIsBack);
        }
        Ok(())
    }
}

/// Whether a peer with this address may say that it is `said`: a message that was made before the
/// address changed still has the former one.
fn is_at(peer: &Frestq, url: &PeerUrl, said: &PeerUrl) -> bool {
    let peers = &peer.0.peers;
    url == said || peers.by_url(url).is_some_and(|id| peers.was_at(id, said))
}

/// What the message asks for, if it is something that this peer does.
fn understand(
    peer: &Frestq,
    from: &Sender<'_>,
    known: Option<PeerId>,
    queue: &str,
    text: &str,
    envelope: Envelope,
) -> Result<(Event, Option<Permit>), Refusal> {
    if let Some(destination) = envelope
        .destination
        .as_ref()
        .filter(|url| *url != peer.url() && !peer.0.peers.was_at(PeerId::SELF, url))
    {
        return Err(Refusal::new(
            403,
            format!(
                "the message is meant for {destination}, and this is {}",
                peer.url()
            ),
        ));
    }
    // A stranger's events are signed once there is something to sign.
    let (stranger, sender) = (known.is_none(), known.unwrap_or(PeerId::SELF));
    let (member, extensions) = (from.member, from.extensions);
    let now = peer.0.clock.now();
    let mut row = InboxRow {
        key: InboxKey {
            peer: sender,
            message: envelope.message_id.clone(),
        },
        hash: hash(queue, text),
        queue: queue.into(),
        action: envelope.action.as_str().into(),
        task: envelope.task_id.clone(),
        data: Some(envelope.data.clone()),
        received_at: now,
        evidence: peer.config().audits().then(|| Evidence {
            certificate: from.certificate.map(|pin| pin.to_string().into()),
            body: Sha256::digest(text.as_bytes()).into(),
        }),
    };
    let mut permit = None;
    let missing = || Refusal::new(400, "field `task_id` is missing");
    let malformed = |why| Refusal::new(400, why);
    let what = if queue != INTERNAL_QUEUE {
        let handler = handler(peer, member, queue, &envelope.action)?;
        let admitted = peer.0.admission.admit(sender);
        permit = Some(admitted.map_err(|full| Refusal::new(503, full))?);
        let (id, kind, input) = match handler.kind {
            HandlerKind::Message => (
                TaskId::generate(),
                TaskKind::Message,
                message_input(queue, &envelope)?,
            ),
            _ => {
                let id = envelope.task_id.clone().ok_or_else(missing)?;
                row.data = None;
                (id, TaskKind::Sequential, envelope.data.clone())
            }
        };
        let mut task = received_task(id, kind, sender, (queue, &envelope.action), input, now);
        task.state.at_most_once = handler.options.at_most_once;
        task.state.expires_at = envelope.expiration_date;
        task.info = envelope.info.map(Into::into);
        task.pingback_at = envelope.pingback_date;
        task.state.report_at = envelope.pingback_date;
        task.state.wake_at = envelope.pingback_date;
        What::Task(Box::new(task))
    } else if envelope.action == SYNCHRONIZE_TASK {
        let asked = PerformData::parse(&envelope.data).map_err(malformed)?;
        let handler = handler(peer, member, &asked.queue, &asked.action)?;
        let admitted = peer.0.admission.admit(sender);
        permit = Some(admitted.map_err(|full| Refusal::new(503, full))?);
        let id = envelope.task_id.or(asked.task_id).ok_or_else(missing)?;
        let address = (asked.queue.as_str(), asked.action.as_str());
        let kind = TaskKind::Sequential;
        let mut task = received_task(id, kind, sender, address, asked.input, now);
        task.state.at_most_once = handler.options.at_most_once;
        // A director that does not know us yet leaves it out, which can only be in its first round.
        task.state.round = envelope.round.unwrap_or(i64::from(extensions));
        task.state.expires_at = asked.expiration_date.or(envelope.expiration_date);
        task.info = envelope.info.map(Into::into);
        task.pingback_at = asked.pingback_date.or(envelope.pingback_date);
        task.state.report_at = task.pingback_at;
        What::Synchronize(Box::new(task))
    } else {
        let id = envelope.task_id.ok_or_else(missing);
        let (data, round) = (&envelope.data, envelope.round);
        let what = match envelope.action.as_str() {
            CANCEL_TASK => What::CallOff(id?),
            UPDATE_TASK => {
                let task = id?;
                let UpdateData { status, output } = UpdateData::parse(data).map_err(malformed)?;
                What::Update(Update {
                    task,
                    status,
                    output,
                    rev: envelope.rev,
                })
            }
            CONFIRM_RESERVATION => {
                let task = id?;
                let confirmed = ConfirmData::parse(data).map_err(malformed)?;
                What::Confirm {
                    task,
                    reservation: confirmed.reservation,
                    seconds: confirmed.seconds,
                    round,
                }
            }
            REFUSE_RESERVATION => What::Refuse { task: id?, round },
            CANCEL_RESERVATION => What::Release { task: id?, round },
            EXECUTE_SYNCHRONIZED => {
                let task = id?;
                let input = PerformData::parse(data).map_err(malformed)?.input;
                What::Execute { task, input }
            }
            action => {
                let why =
                    format!("queue {INTERNAL_QUEUE} has no action {action:?} for other peers");
                return Err(Refusal::new(404, why));
            }
        };
        if stranger {
            return Err(unknown_task());
        }
        what
    };
    Ok((
        Event::Receive(Box::new(Received {
            row,
            certificate: None,
            what,
        })),
        permit,
    ))
}

/// The handler that the sender may ask for. What it may not have is for it what does not exist.
fn handler(
    peer: &Frestq,
    member: Option<&Member>,
    queue: &str,
    action: &str,
) -> Result<&'static Registration, Refusal> {
    let granted = |queue: &str, action: &str| member.is_none_or(|m| m.may(queue, action));
    let handler = peer.0.registry.get(queue, action);
    let handler = handler.filter(|handler| !handler.options.local);
    if let (Some(handler), Some(member)) = (handler, member)
        && !granted(queue, action)
    {
        let (queue, action) = (handler.queue.to_owned(), handler.action.to_owned());
        let cause = Cause::NotGranted(member.name.clone(), queue, action);
        peer.0.trust.refusals.note(cause);
    }
    handler.filter(|_| granted(queue, action)).ok_or_else(|| {
        let known = peer.0.registry.describe_those(granted);
        Refusal::new(
            404,
            format!("queue {queue:?} has no action {action:?}; {known}"),
        )
    })
}

/// The row of a task that another peer hands us.
fn received_task(
    id: TaskId,
    kind: TaskKind,
    peer: PeerId,
    (queue, action): (&str, &str),
    input: Json,
    now: jiff::Timestamp,
) -> NewTask {
    NewTask {
        state: TaskState {
            id,
            kind,
            role: Role::Received,
            peer,
            queue: queue.into(),
            action: action.into(),
            ..TaskState::new(now)
        },
        input,
        label: None,
        info: None,
        pingback_at: None,
        priority: 0,
        unique_key: None,
        created_at: now,
    }
}

/// A raw message as the input of its handler.
fn message_input(queue: &str, envelope: &Envelope) -> Result<Json, Refusal> {
    let message = Message {
        id: envelope.message_id.clone(),
        queue: queue.to_owned(),
        action: envelope.action.clone(),
        sender: envelope.sender.clone(),
        task_id: envelope.task_id.clone(),
        data: envelope.data.clone(),
        info: envelope.info.clone(),
        pingback_date: envelope.pingback_date,
        expiration_date: envelope.expiration_date,
    };
    to_json(&message).map_err(|e| Refusal::new(400, e.to_string()))
}

async fn commit(peer: &Frestq, events: Vec<Event>, bytes: usize) -> Result<Vec<Answer>, Refusal> {
    match tokio::time::timeout(
        PATIENCE,
        peer.0.commits.submit_unless_overloaded(events, bytes),
    )
    .await
    {
        Ok(answers) => answers.map_err(|error| overloaded(&error)),
        Err(_) => Err(Refusal::new(503, "the database of this peer is busy")),
    }
}

/// Our own troubles are no reason to give up on us.
fn overloaded(error: &Error) -> Refusal {
    match error {
        Error::Overloaded => Refusal::new(503, "too many messages at once"),
        Error::Stopping => Refusal::new(503, "this peer is stopping"),
        error => {
            // The sender learns nothing about our database.
            tracing::error!(%error, "a message could not be stored");
            Refusal::new(503, "this peer can't store messages now")
        }
    }
}

fn judge(answer: Answer) -> Result<(), Refusal> {
    match answer {
        Answer::Accepted | Answer::Ignored | Answer::Known(_) => Ok(()),
        Answer::Conflict(why) => Err(Refusal::new(409, why)),
        Answer::UnknownTask => Err(unknown_task()),
    }
}

/// The same for a task that nobody knows and for somebody else's.
fn unknown_task() -> Refusal {
    Refusal::new(404, "there is no such task of yours here")
}

/// Tells a repetition from another message under the same id.
fn hash(queue: &str, text: &str) -> [u8; 16] {
    let mut hasher = Sha256::new();
    hasher.update(queue.as_bytes());
    hasher.update([0]);
    hasher.update(text.as_bytes());
    let full: [u8; 32] = hasher.finalize().into();
    let mut cut = [0; 16];
    cut.copy_from_slice(&full[..16]);
    cut
}
