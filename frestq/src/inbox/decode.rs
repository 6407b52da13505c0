//! What a message asks for, and whether its sender may.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::{
    response::{Rejection, unknown_task},
    sender::Sender,
};
use crate::{
    commit::admission::Permit,
    engine::{Event, MessageKind, Received, Update},
    model::{
        Evidence, InboxKey, InboxRow, Json, NewTask, PeerId, PeerUrl, Role, RoundMark, TaskId,
        TaskKind, TaskState,
        catalog::{HandlerInfo, HandlerKind},
        check_trace,
        raw_message::Message,
        to_json,
    },
    protocol::{
        INTERNAL_QUEUE, InternalAction,
        envelope::Envelope,
        internal_data::{ConfirmData, PerformData, UpdateData},
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
    check_destination(services, &envelope)?;
    let request = Request {
        services,
        from,
        // A stranger's events are signed once there is something to sign.
        sender: known.unwrap_or(PeerId::SELF),
        now: services.clock.now(),
    };
    let mut row = request.row(queue, text, &envelope);
    let (what, permit) = if queue != INTERNAL_QUEUE {
        let (task, permit) = request.task(queue, envelope)?;
        if task.state.kind != TaskKind::Message {
            // It is the task's input.
            row.data = None;
        }
        (MessageKind::Task(Box::new(task)), Some(permit))
    } else if envelope.action.parse() == Ok(InternalAction::SynchronizeTask) {
        let (task, permit) = request.synchronize(envelope)?;
        (MessageKind::Synchronize(Box::new(task)), Some(permit))
    } else {
        let what = about_a_task(envelope)?;
        if known.is_none() {
            return Err(unknown_task());
        }
        (what, None)
    };
    let received = Received {
        row,
        certificate: None,
        what,
    };
    Ok((Event::Receive(Box::new(received)), permit))
}

/// Refuses a message that is meant for another peer.
fn check_destination(services: &Services, envelope: &Envelope) -> Result<(), Rejection> {
    let is_ours = |url: &PeerUrl| *url == services.url || services.peers.was_at(PeerId::SELF, url);
    match &envelope.destination {
        Some(destination) if !is_ours(destination) => Err(Rejection::new(
            403,
            format!(
                "the message is meant for {destination}, and this is {}",
                services.url
            ),
        )),
        _ => Ok(()),
    }
}

/// A message on its way in.
struct Request<'a> {
    services: &'a Services,
    from: &'a Sender<'a>,
    sender: PeerId,
    now: jiff::Timestamp,
}

impl Request<'_> {
    /// The row by which a repetition of the message is known.
    fn row(&self, queue: &str, text: &str, envelope: &Envelope) -> InboxRow {
        InboxRow {
            key: InboxKey {
                peer: self.sender,
                message: envelope.message_id.clone(),
            },
            hash: hash(queue, text),
            queue: queue.into(),
            action: envelope.action.as_str().into(),
            task: envelope.task_id.clone(),
            data: Some(envelope.data.clone()),
            received_at: self.now,
            evidence: self.services.config.audits().then(|| Evidence {
                certificate: self.from.certificate.map(|pin| pin.to_string().into()),
                body: Sha256::digest(text.as_bytes()).into(),
            }),
        }
    }

    /// A task, or a raw message, for a local handler.
    fn task(&self, queue: &str, envelope: Envelope) -> Result<(NewTask, Permit), Rejection> {
        let handler = handler(self.services, self.from.peer, queue, &envelope.action)?;
        let permit = self.admit()?;
        let (id, kind, input) = match handler.kind {
            HandlerKind::Message => (
                TaskId::generate(),
                TaskKind::Message,
                message_input(queue, &envelope)?,
            ),
            _ => {
                let id = envelope.task_id.clone().ok_or_else(missing)?;
                (id, TaskKind::Sequential, envelope.data.clone())
            }
        };
        let address = (queue, envelope.action.as_str());
        let mut task = received_task(id, kind, self.sender, address, input, self.now);
        task.state.at_most_once = handler.options.at_most_once;
        task.state.trace = trace(&envelope);
        task.state.expires_at = envelope.expiration_date;
        task.info = envelope.info.map(Into::into);
        task.pingback_at = envelope.pingback_date;
        task.state.report_at = envelope.pingback_date;
        task.state.wake_at = envelope.pingback_date;
        Ok((task, permit))
    }

    /// A task of a synchronized group, for which a local handler reserves.
    fn synchronize(&self, envelope: Envelope) -> Result<(NewTask, Permit), Rejection> {
        let asked = PerformData::parse(&envelope.data).map_err(malformed)?;
        let handler = handler(self.services, self.from.peer, &asked.queue, &asked.action)?;
        let permit = self.admit()?;
        let trace = trace(&envelope);
        let id = envelope.task_id.or(asked.task_id).ok_or_else(missing)?;
        let address = (asked.queue.as_str(), asked.action.as_str());
        let kind = TaskKind::Sequential;
        let mut task = received_task(id, kind, self.sender, address, asked.input, self.now);
        task.state.at_most_once = handler.options.at_most_once;
        task.state.trace = trace;
        // A director that does not know us yet leaves it out, which can only be in its first
        // round.
        let first = i64::from(self.from.extensions);
        task.state.round = RoundMark::from_code(envelope.round.unwrap_or(first));
        task.state.expires_at = asked.expiration_date.or(envelope.expiration_date);
        task.info = envelope.info.map(Into::into);
        task.pingback_at = asked.pingback_date.or(envelope.pingback_date);
        task.state.report_at = task.pingback_at;
        Ok((task, permit))
    }

    /// Room for one more task of this sender.
    fn admit(&self) -> Result<Permit, Rejection> {
        let admitted = self.services.admission.admit(self.sender);
        admitted.map_err(|full| Rejection::new(503, full))
    }
}

/// A message about a task that both peers know.
fn about_a_task(envelope: Envelope) -> Result<MessageKind, Rejection> {
    let id = envelope.task_id.ok_or_else(missing);
    let (data, round) = (&envelope.data, envelope.round);
    Ok(match envelope.action.parse() {
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
            let why = format!("queue {INTERNAL_QUEUE} has no action {action:?} for other peers");
            return Err(Rejection::new(404, why));
        }
    })
}

fn missing() -> Rejection {
    Rejection::new(400, "field `task_id` is missing")
}

fn malformed(why: String) -> Rejection {
    Rejection::new(400, why)
}

/// The trace of the task that a message carries. One that we can't keep costs no task: the sender
/// may follow a newer version of the protocol.
fn trace(envelope: &Envelope) -> Option<Arc<str>> {
    let came = envelope.trace.as_ref()?;
    let text = serde_json::from_str::<String>(came.get());
    let text = text.map_err(|_| "no text".to_owned());
    match text.and_then(|text| check_trace(&text).map(|()| text)) {
        Ok(text) => Some(text.into()),
        Err(why) => {
            tracing::debug!(
                message = %envelope.message_id,
                sender = %envelope.sender,
                "ignored the field `ext.trace`: {why}"
            );
            None
        }
    }
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
