//! The way in: identify, parse, authorise, admit, one transaction, answer. Nothing that is refused is
//! stored.

use std::{str, time::Duration};

use serde_json::value::RawValue;

use super::{
    authenticate::Authenticated,
    decode::{decode, hash},
    response::{Rejection, Response, overloaded, unknown_task},
    sender::{Sender, is_at},
};
use crate::{
    engine::{Answer, Event},
    model::{InboxKey, MessageId, PeerId},
    protocol::{
        INTERNAL_QUEUE, InternalAction,
        envelope::Envelope,
        internal_data::{BatchAnswer, parse_batch},
    },
    security::RejectionReason,
    services::Services,
};

/// How long a message waits for its transaction before its sender is asked to come back. It may
/// still be stored after that; the sender's next attempt then gets the same answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// The most messages in one `frestq.batch`.
const LONGEST_BATCH: usize = 1000;

/// Takes one request for `queue`. `extensions`: its sender shows that it reads ours.
pub(crate) async fn receive(
    services: &Services,
    guest: &Authenticated,
    queue: &str,
    body: &[u8],
    extensions: bool,
) -> Response {
    match take(services, guest, queue, body, extensions).await {
        Ok(response) => response,
        Err(rejection) => {
            tracing::debug!(
                queue,
                status = rejection.status,
                "a message was refused: {}",
                rejection.message
            );
            Response::Rejected(rejection)
        }
    }
}

async fn take(
    services: &Services,
    guest: &Authenticated,
    queue: &str,
    body: &[u8],
    extensions: bool,
) -> Result<Response, Rejection> {
    let member = guest.member.as_deref();
    let text = str::from_utf8(body)
        .map_err(|e| Rejection::new(400, format!("the body is not UTF-8: {e}")))?;
    let envelope = Envelope::parse(text).map_err(|why| Rejection::new(400, why))?;
    if let Some(member) = member.filter(|member| !is_at(services, &member.url, &envelope.sender)) {
        let cause = RejectionReason::ForeignSender(member.name.clone());
        services.trust.rejections.note(cause);
        let why = "`sender_url` is not the address that is registered for this certificate";
        return Err(Rejection::new(403, why));
    }
    if let Some(full) = services.admission.refuse_message() {
        return Err(Rejection::new(503, full));
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
    let known = sender.recognize(services).await?;
    if queue == INTERNAL_QUEUE && envelope.action.parse() == Ok(InternalAction::Batch) {
        return take_batch(services, &sender, known, &envelope)
            .await
            .map(Response::Batch);
    }
    let id = envelope.message_id.clone();
    // Held until the answer is known.
    let (event, _permit) = match decode(services, &sender, known, queue, text, envelope) {
        Ok(decoded) => decoded,
        Err(rejection) => {
            return unless_repeated(services, known, id, (queue, text), rejection)
                .await
                .map(|()| Response::Accepted);
        }
    };
    let mut events = vec![event];
    sender.sign(services, known, &mut events).await?;
    let answers = commit(services, events, text.len()).await?;
    match answers.into_iter().next() {
        Some(answer) => classify(answer).map(|()| Response::Accepted),
        None => Err(Rejection::new(503, "no answer from the database")),
    }
}

/// Each message of a batch is accepted or refused on its own; all that can be are stored together.
async fn take_batch(
    services: &Services,
    sender: &Sender<'_>,
    known: Option<PeerId>,
    batch: &Envelope,
) -> Result<Vec<BatchAnswer>, Rejection> {
    let entries = parse_batch(&batch.data).map_err(|why| Rejection::new(400, why))?;
    if entries.len() > LONGEST_BATCH {
        return Err(Rejection::new(
            413,
            format!(
                "{} messages in a batch; at most {LONGEST_BATCH}",
                entries.len()
            ),
        ));
    }
    let (mut events, mut permits, mut results) = (Vec::new(), Vec::new(), Vec::new());
    for entry in entries {
        let decoded = Envelope::parse(entry.message.get())
            .map_err(|why| (message_id(&entry.message), Rejection::new(400, why)));
        let decoded = decoded.and_then(|envelope| {
            let id = envelope.message_id.to_string();
            if !is_at(services, &batch.sender, &envelope.sender) {
                let why = "field `sender_url` is not the one of the batch";
                return Err((id, Rejection::new(403, why)));
            }
            let text = entry.message.get();
            match decode(services, sender, known, &entry.queue, text, envelope) {
                Ok((event, permit)) => {
                    permits.extend(permit);
                    Ok((id, event))
                }
                Err(rejection) => Err((id, rejection)),
            }
        });
        results.push(match decoded {
            Ok((id, event)) => {
                events.push(event);
                (id, Ok(DedupResult::Now))
            }
            Err((id, rejection)) => {
                let (key, said) = (id.as_str().into(), (&*entry.queue, entry.message.get()));
                let repeated = unless_repeated(services, known, key, said, rejection).await;
                (id, repeated.map(|()| DedupResult::Before))
            }
        });
    }
    let mut answers = if events.is_empty() {
        Vec::new()
    } else {
        sender.sign(services, known, &mut events).await?;
        commit(services, events, batch.data.get().len()).await?
    }
    .into_iter();
    drop(permits);
    let answer = |(message_id, decoded): (String, Result<DedupResult, Rejection>)| {
        let result = decoded.and_then(|asked| match asked {
            DedupResult::Before => Ok(()),
            DedupResult::Now => match answers.next() {
                Some(answer) => classify(answer),
                None => Err(Rejection::new(503, "no answer from the database")),
            },
        });
        match result {
            Ok(()) => BatchAnswer {
                message_id,
                status: 200,
                message: None,
            },
            Err(Rejection { status, message }) => BatchAnswer {
                message_id,
                status,
                message: Some(message),
            },
        }
    };
    Ok(results.into_iter().map(answer).collect())
}

/// When a message of a batch was accepted, if it was.
enum DedupResult {
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
    services: &Services,
    known: Option<PeerId>,
    message: MessageId,
    (queue, text): (&str, &str),
    rejection: Rejection,
) -> Result<(), Rejection> {
    let Some(sender) = known else {
        return Err(rejection);
    };
    let key = InboxKey {
        peer: sender,
        message,
    };
    let accepted = services.store.accepted(&key).await;
    match accepted.map_err(|error| overloaded(&error))? {
        Some(before) if before == hash(queue, text) => Ok(()),
        _ => Err(rejection),
    }
}

async fn commit(
    services: &Services,
    events: Vec<Event>,
    bytes: usize,
) -> Result<Vec<Answer>, Rejection> {
    match tokio::time::timeout(
        PATIENCE,
        services.commits.submit_unless_overloaded(events, bytes),
    )
    .await
    {
        Ok(answers) => answers.map_err(|error| overloaded(&error)),
        Err(_) => Err(Rejection::new(503, "the database of this peer is busy")),
    }
}

fn classify(answer: Answer) -> Result<(), Rejection> {
    match answer {
        Answer::Accepted | Answer::Ignored | Answer::Known(_) => Ok(()),
        Answer::Conflict(why) => Err(Rejection::new(409, why)),
        Answer::UnknownTask => Err(unknown_task()),
    }
}
