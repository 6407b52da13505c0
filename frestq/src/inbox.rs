//! The way in: identify, parse, authorise, admit, one transaction, answer. Nothing that is refused is
//! stored.

mod identity;
mod sender;
mod understand;

use std::{str, time::Duration};

use serde_json::value::RawValue;

use self::{
    sender::{Sender, is_at},
    understand::{hash, understand},
};
use crate::{
    engine::{Answer, Event},
    error::Error,
    model::{InboxKey, MessageId, PeerId},
    peer::Frestq,
    trust::Cause,
    wire::{
        BATCH, INTERNAL_QUEUE,
        message::{BatchAnswer, Envelope, parse_batch},
    },
};

pub(crate) use identity::{Guest, identify, identify_again};

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
    let id = envelope.message_id.clone();
    // Held until the answer is known.
    let (event, _permit) = match understand(peer, &sender, known, queue, text, envelope) {
        Ok(understood) => understood,
        Err(refusal) => {
            return unless_repeated(peer, known, id, (queue, text), refusal)
                .await
                .map(|()| Response::Accepted);
        }
    };
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
                (id, Ok(Asked::Now))
            }
            Err((id, refusal)) => {
                let (key, said) = (id.as_str().into(), (&*entry.queue, entry.message.get()));
                let repeated = unless_repeated(peer, known, key, said, refusal).await;
                (id, repeated.map(|()| Asked::Before))
            }
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
    let answer = |(message_id, understood): (String, Result<Asked, Refusal>)| {
        let result = understood.and_then(|asked| match asked {
            Asked::Before => Ok(()),
            Asked::Now => match answers.next() {
                Some(answer) => judge(answer),
                None => Err(Refusal::new(503, "no answer from the database")),
            },
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

/// When a message of a batch was accepted, if it was.
enum Asked {
    Before,
    /// It is among those that are stored now.
    Now,
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

/// Refuses a message, unless it was accepted before: what was allowed then may not be now, and its sender
/// must not take for refused what is under way here.
async fn unless_repeated(
    peer: &Frestq,
    known: Option<PeerId>,
    message: MessageId,
    (queue, text): (&str, &str),
    refusal: Refusal,
) -> Result<(), Refusal> {
    let Some(sender) = known else {
        return Err(refusal);
    };
    let key = InboxKey {
        peer: sender,
        message,
    };
    let accepted = peer.0.store.accepted(&key).await;
    match accepted.map_err(|error| overloaded(&error))? {
        Some(before) if before == hash(queue, text) => Ok(()),
        _ => Err(refusal),
    }
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
