//! What a message asks for, and whether its sender may.

use sha2::{Digest, Sha256};

use super::{
    response::{Rejection, unknown_task},
    sender::Sender,
};
use crate::{
    commit::admission::Permit,
    engine::{Event, MessageKind, Received, Update},
    model::{
        Evidence, InboxKey, InboxRow, Json, NewTask, PeerId, Role, RoundMark, TaskId, TaskKind,
        TaskState,
        catalog::{HandlerInfo, HandlerKind},
        raw_message::Message,
        to_json,
    },
    protocol::{
        INTERNAL_QUEUE, InternalAction,
        envelope::{ConfirmData, Envelope, PerformData, UpdateData},
    },
    security::{RejectionReason, registered::RegisteredPeer},
    services::Services,
};

/// What the message asks for, if it is something that this peer does.
pub(super) fn decode(
    services: &Services,
    from: &Sender<'_>,
    known: Option<PeerId>,
    queue: &str,
    text: &str,
    envelope: Envelope,
) -> Result<(Event, Option<Permit>), Rejection> {
    if let Some(destination) = envelope
        .destination
        .as_ref()
        .filter(|url| **url != services.url && !services.peers.was_at(PeerId::SELF, url))
    {
        return Err(Rejection::new(
            403,
            format!(
                "the message is meant for {destination}, and this is {}",
                services.url
            ),
        ));
    }
    // A stranger's events are signed once there is something to sign.
    let (stranger, sender) = (known.is_none(), known.unwrap_or(PeerId::SELF));
    let (member, extensions) = (from.peer, from.extensions);
    let now = services.clock.now();
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
        evidence: services.config.audits().then(|| Evidence {
            certificate: from.certificate.map(|pin| pin.to_string().into()),
            body: Sha256::digest(text.as_bytes()).into(),
        }),
    };
    let mut permit = None;
    let missing = || Rejection::new(400, "field `task_id` is missing");
    let malformed = |why| Rejection::new(400, why);
    let internal = envelope.action.parse();
    let what = if queue != INTERNAL_QUEUE {
        let handler = handler(services, member, queue, &envelope.action)?;
        let admitted = services.admission.admit(sender);
        permit = Some(admitted.map_err(|full| Rejection::new(503, full))?);
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
        MessageKind::Task(Box::new(task))
    } else if internal == Ok(InternalAction::SynchronizeTask) {
        let asked = PerformData::parse(&envelope.data).map_err(malformed)?;
        let handler = handler(services, member, &asked.queue, &asked.action)?;
        let admitted = services.admission.admit(sender);
        permit = Some(admitted.map_err(|full| Rejection::new(503, full))?);
        let id = envelope.task_id.or(asked.task_id).ok_or_else(missing)?;
        let address = (asked.queue.as_str(), asked.action.as_str());
        let kind = TaskKind::Sequential;
        let mut task = received_task(id, kind, sender, address, asked.input, now);
        task.state.at_most_once = handler.options.at_most_once;
        // A director that does not know us yet leaves it out, which can only be in its first round.
        task.state.round = RoundMark::from_code(envelope.round.unwrap_or(i64::from(extensions)));
        task.state.expires_at = asked.expiration_date.or(envelope.expiration_date);
        task.info = envelope.info.map(Into::into);
        task.pingback_at = asked.pingback_date.or(envelope.pingback_date);
        task.state.report_at = task.pingback_at;
        MessageKind::Synchronize(Box::new(task))
    } else {
        let id = envelope.task_id.ok_or_else(missing);
        let (data, round) = (&envelope.data, envelope.round);
        let what = match internal {
            Ok(InternalAction::CancelTask) => MessageKind::Cancel(id?),
            Ok(InternalAction::UpdateTask) => {
                let task = id?;
                let UpdateData { status, output } = UpdateData::parse(data).map_err(malformed)?;
                MessageKind::Update(Update {
                    task,
                    status,
                    output,
                    rev: envelope.rev,
                })
            }
            Ok(InternalAction::ConfirmReservation) => {
                let task = id?;
                let confirmed = ConfirmData::parse(data).map_err(malformed)?;
                MessageKind::Confirm {
                    task,
                    reservation: confirmed.reservation,
                    seconds: confirmed.seconds,
                    round,
                }
            }
            Ok(InternalAction::RefuseReservation) => MessageKind::Refuse { task: id?, round },
            Ok(InternalAction::CancelReservation) => MessageKind::Release { task: id?, round },
            Ok(InternalAction::ExecuteSynchronized) => {
                let task = id?;
                let input = PerformData::parse(data).map_err(malformed)?.input;
                MessageKind::Execute { task, input }
            }
            Ok(InternalAction::SynchronizeTask | InternalAction::Batch) | Err(_) => {
                let action = &envelope.action;
                let why =
                    format!("queue {INTERNAL_QUEUE} has no action {action:?} for other peers");
                return Err(Rejection::new(404, why));
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
    services: &Services,
    member: Option<&RegisteredPeer>,
    queue: &str,
    action: &str,
) -> Result<HandlerInfo, Rejection> {
    let granted = |queue: &str, action: &str| member.is_none_or(|m| m.may(queue, action));
    let handler = services.catalog.get(queue, action);
    let handler = handler.filter(|handler| !handler.options.local);
    if let (Some(handler), Some(member)) = (handler, member)
        && !granted(queue, action)
    {
        let (queue, action) = (handler.queue.to_owned(), handler.action.to_owned());
        let cause = RejectionReason::NotGranted(member.name.clone(), queue, action);
        services.trust.rejections.record(cause);
    }
    handler.filter(|_| granted(queue, action)).ok_or_else(|| {
        let known = services.catalog.describe_if(granted);
        Rejection::new(
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
fn message_input(queue: &str, envelope: &Envelope) -> Result<Json, Rejection> {
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
    to_json(&message).map_err(|e| Rejection::new(400, e.to_string()))
}

/// Tells a repetition from another message under the same id.
pub(super) fn hash(queue: &str, text: &str) -> [u8; 16] {
    let mut hasher = Sha256::new();
    hasher.update(queue.as_bytes());
    hasher.update([0]);
    hasher.update(text.as_bytes());
    let full: [u8; 32] = hasher.finalize().into();
    let mut cut = [0; 16];
    cut.copy_from_slice(&full[..16]);
    cut
}
