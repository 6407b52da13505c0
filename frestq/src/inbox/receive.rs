//! Receives the body of an authenticated request: decodes, authorises, admits and commits its
//! messages and returns the response. Nothing of a rejected message is stored.

use std::{str, time::Duration};

use serde_json::value::RawValue;

use super::{
    authenticate::Authenticated,
    decode::{decode, hash},
    response::{Rejection, Response, overloaded, unknown_task},
    sender::{Sender, is_address_of},
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

/// How long a request waits for its transaction before it is answered with 503. The transaction
/// may still be committed after that; deduplication then gives the sender's retry the same answer.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(20);

/// The maximum number of messages in one `frestq.batch`.
const MAX_BATCH: usize = 1000;

/// Receives one request for `queue`. `extensions` tells whether its sender supports the
/// extensions.
pub(crate) async fn receive(
    services: &Services,
    authenticated: &Authenticated,
    queue: &str,
    body: &[u8],
    extensions: bool,
) -> Response {
    match process(services, authenticated, queue, body, extensions).await {
        Ok(response) => response,
        Err(rejection) => {
            tracing::debug!(
                target: "frestq::inbox",
                queue,
                status = rejection.status,
                "rejected a message: {}",
                rejection.message
            );
            Response::Rejected(rejection)
        }
    }
}

async fn process(
    services: &Services,
    authenticated: &Authenticated,
    queue: &str,
    body: &[u8],
    extensions: bool,
) -> Result<Response, Rejection> {
    let peer = authenticated.peer.as_deref();
    let text = str::from_utf8(body)
        .map_err(|e| Rejection::new(400, format!("the body is not UTF-8: {e}")))?;
    let envelope = Envelope::parse(text).map_err(|why| Rejection::new(400, why))?;
    if let Some(peer) = peer.filter(|peer| !is_address_of(services, &peer.url, &envelope.sender)) {
        let reason = RejectionReason::ForeignSender(peer.name.clone());
        services.trust.rejections.record(reason);
        let why = "`sender_url` is not the address that is registered for this certificate";
        return Err(Rejection::new(403, why));
    }
    if let Some(full) = services.admission.refuse_message() {
        return Err(Rejection::new(503, full));
    }
    let sender = Sender {
        url: match peer {
            // The envelope may contain the former one.
            Some(peer) => peer.url.clone(),
            None => envelope.sender.clone(),
        },
        extensions,
        peer,
        certificate: authenticated.certificate,
    };
    let known = sender.find(services).await?;
    if queue == INTERNAL_QUEUE && envelope.action.parse() == Ok(InternalAction::Batch) {
        return process_batch(services, &sender, known, &envelope)
            .await
            .map(Response::Batch);
    }
    let id = envelope.message_id.clone();
    // Held until the answer is known.
    let (event, _permit) = match decode(services, &sender, known, queue, text, envelope) {
        Ok(decoded) => decoded,
        Err(rejection) => {
            return unless_accepted_before(services, known, id, (queue, text), rejection)
                .await
                .map(|()| Response::Accepted);
        }
    };
    let mut events = vec![event];
    sender.attach(services, known, &mut events).await?;
    let answers = commit(services, events, text.len()).await?;
    match answers.into_iter().next() {
        Some(answer) => classify(answer).map(|()| Response::Accepted),
        None => Err(Rejection::new(503, "no answer from the database")),
    }
}

/// Processes a batch. Each message is accepted or rejected on its own; all accepted ones are
/// committed together.
async fn process_batch(
    services: &Services,
    sender: &Sender<'_>,
    known: Option<PeerId>,
    batch: &Envelope,
) -> Result<Vec<BatchAnswer>, Rejection> {
    let entries = parse_batch(&batch.data).map_err(|why| Rejection::new(400, why))?;
    if entries.len() > MAX_BATCH {
        return Err(Rejection::new(
            413,
            format!("{} messages in a batch; at most {MAX_BATCH}", entries.len()),
        ));
    }
    let (mut events, mut permits, mut results) = (Vec::new(), Vec::new(), Vec::new());
    for entry in entries {
        let decoded = Envelope::parse(entry.message.get())
            .map_err(|why| (message_id(&entry.message), Rejection::new(400, why)));
        let decoded = decoded.and_then(|envelope| {
            let id = envelope.message_id.to_string();
            if !is_address_of(services, &batch.sender, &envelope.sender) {
                let why = "`sender_url` is not that of the batch";
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
                (id, Ok(DedupResult::New))
            }
            Err((id, rejection)) => {
                let (key, content) = (id.as_str().into(), (&*entry.queue, entry.message.get()));
                let result = unless_accepted_before(services, known, key, content, rejection).await;
                (id, result.map(|()| DedupResult::Before))
            }
        });
    }
    let mut answers = if events.is_empty() {
        Vec::new()
    } else {
        sender.attach(services, known, &mut events).await?;
        commit(services, events, batch.data.get().len()).await?
    }
    .into_iter();
    drop(permits);
    let answer = |(message_id, decoded): (String, Result<DedupResult, Rejection>)| {
        let result = decoded.and_then(|dedup| match dedup {
            DedupResult::Before => Ok(()),
            DedupResult::New => match answers.next() {
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

/// The result of deduplication for a message of a batch.
enum DedupResult {
    /// It was accepted before.
    Before,
    /// It is one of the events that are committed now.
    New,
}

/// The id of a message that can't be parsed otherwise, so that the answer can refer to it.
fn message_id(message: &RawValue) -> String {
    #[derive(serde::Deserialize)]
    struct Identified {
        message_id: String,
    }
    serde_json::from_str(message.get())
        .map(|identified: Identified| identified.message_id)
        .unwrap_or_default()
}

/// Returns the rejection, unless the same message was accepted before. Grants may have changed
/// since, but the sender must not learn of a rejection while the task is running here.
async fn unless_accepted_before(
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
        COMMIT_TIMEOUT,
        services.commits.submit_unless_overloaded(events, bytes),
    )
    .await
    {
        Ok(answers) => answers.map_err(|error| overloaded(&error)),
        Err(_) => Err(Rejection::new(503, "this peer's database is busy")),
    }
}

fn classify(answer: Answer) -> Result<(), Rejection> {
    match answer {
        Answer::Accepted | Answer::Ignored | Answer::Known(_) => Ok(()),
        Answer::Conflict(why) => Err(Rejection::new(409, why)),
        Answer::UnknownTask => Err(unknown_task()),
    }
}
