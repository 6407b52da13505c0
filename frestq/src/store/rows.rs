//! What rows hold, read the same way whichever database they come from.

use jiff::Timestamp;

use super::{
    fields::{Fields, Row},
    loads::{Content, Waiting},
    peer_rows::{Contact, PeerHealth, PeerRow},
    sql::ACCEPTED,
    task_columns::{self, state as read_state},
    writes::OutboxState,
};
use crate::model::{
    Direction, InboxKey, Json, MessageId, MessageRecord, NewTask, NodeId, OutboxRow, PeerId,
    PeerUrl, Role, TaskId, TaskRecord, TaskState, error::Result, null,
};

/// `{STATE}`
pub(super) fn state(row: &Row) -> Result<TaskState> {
    read_state(&mut Fields::of("tasks", row))
}

/// `{STATE}`, input, output and reservation.
pub(super) fn waiting(row: &Row) -> Result<Waiting> {
    let row = &mut Fields::of("tasks", row);
    Ok(Waiting {
        state: read_state(row)?,
        input: row.json()?,
        output: row.json()?,
        reservation: row.json()?,
    })
}

/// `{STATE}`, `{NEW}`, and the input that the task was made with, where it was changed.
pub(super) fn stored(row: &Row) -> Result<NewTask> {
    let row = &mut Fields::of("tasks", row);
    let state = read_state(row)?;
    let mut task = task_columns::new(state, row)?;
    if let Some(first) = row.json_if_any()? {
        task.input = first;
    }
    Ok(task)
}

/// The id, and `{CONTENT}`.
pub(super) fn content(row: &Row) -> Result<(TaskId, Content)> {
    let row = &mut Fields::of("tasks", row);
    Ok((row.text()?, task_columns::content(row)?))
}

/// `peer, message, hash`
pub(super) fn accepted(row: &mut Fields<'_>) -> Result<(InboxKey, [u8; 16])> {
    let key = InboxKey {
        peer: row.number(PeerId)?,
        message: row.text()?,
    };
    let hash: Vec<u8> = row.get()?;
    // A hash of another length never matches.
    Ok((key, hash.try_into().unwrap_or_default()))
}

/// `unique_key, id`
pub(super) fn unique(row: &mut Fields<'_>) -> Result<(Box<str>, TaskId)> {
    Ok((row.text()?, row.text()?))
}

/// `message, seq`: the place in the outbox that a new message was given.
pub(super) fn place(row: &Row) -> Result<(MessageId, i64)> {
    let row = &mut Fields::of("outbox", row);
    Ok((row.text()?, row.get()?))
}

/// The columns that [`peer`] reads.
pub(super) const PEER: &str =
    "id, url, extensions, failures, probe_at, last_error, name, heard_at, answered_at, former_url";

/// `{PEER}`
pub(super) fn peer(row: &Row) -> Result<PeerRow> {
    let row = &mut Fields::of("peers", row);
    Ok(PeerRow {
        id: row.number(PeerId)?,
        url: PeerUrl::trusted(row.get()?),
        health: PeerHealth {
            extensions: row.get()?,
            failures: row.get()?,
            probe_at: row.at_if_any()?,
            last_error: row.get()?,
        },
        name: row.get()?,
        contact: Contact {
            heard: row.at_if_any()?,
            answered: row.at_if_any()?,
        },
        former_url: row.get::<Option<String>>()?.map(PeerUrl::trusted),
    })
}

/// `peer, count`
pub(super) fn count(row: &Row) -> Result<(PeerId, i64)> {
    let row = &mut Fields::of("tasks", row);
    Ok((row.number(PeerId)?, row.get()?))
}

/// `peer, moment`
pub(super) fn backlog(row: &Row) -> Result<(PeerId, Timestamp)> {
    let row = &mut Fields::of("outbox", row);
    Ok((row.number(PeerId)?, row.at()?))
}

/// The moment alone.
pub(super) fn next(row: &Row) -> Result<Option<Timestamp>> {
    Fields::of("tasks", row).at_if_any()
}

/// `id, owner, queue, action`
pub(super) fn orphan(row: &Row) -> Result<(TaskId, NodeId, String, String)> {
    let row = &mut Fields::of("tasks", row);
    Ok((row.text()?, row.number(NodeId)?, row.get()?, row.get()?))
}

/// The columns that [`outbox`] reads of a message `o`, and of its task `t` whether it has ended.
pub(super) const OUTBOX: &str = "o.seq, o.peer, o.message, o.queue, o.action, o.task, o.carries_task, o.body, \
     o.expires_at, o.attempts, o.due_at, o.created_at, o.pin";

/// `{OUTBOX}`, and whether the message is obsolete.
pub(super) fn outbox(row: &Row) -> Result<OutboxRow> {
    let row = &mut Fields::of("outbox", row);
    Ok(OutboxRow {
        seq: row.get()?,
        peer: row.number(PeerId)?,
        message: row.text()?,
        queue: row.text()?,
        action: row.text()?,
        task: row.text()?,
        carries_task: row.get()?,
        body: row.text()?,
        expires_at: row.at_if_any()?,
        attempts: row.get()?,
        due_at: row.at()?,
        created_at: row.at()?,
        pin: row.fingerprint()?,
        moot: row.get()?,
    })
}

/// The addresses of the other peer and our own, `{STATE}`, `{NEW}`, output, reservation,
/// progress, and since when the task is pruned.
pub(super) fn task(row: &Row) -> Result<TaskRecord> {
    let row = &mut Fields::of("tasks", row);
    let (peer, here) = (PeerUrl::trusted(row.get()?), PeerUrl::trusted(row.get()?));
    let state = read_state(row)?;
    let new = task_columns::new(state, row)?;
    let state = new.state;
    let role = state.role;
    let certificate = state.certificate.map(|pin| pin.to_string());
    let (sender_ssl_cert, receiver_ssl_cert) = match role {
        Role::Sent => (None, certificate),
        _ => (certificate, None),
    };
    let (sender_url, receiver_url) = match role {
        Role::Sent => (here, peer),
        Role::Received => (peer, here),
        Role::Local => (here.clone(), here),
    };
    Ok(TaskRecord {
        id: state.id,
        task_type: state.kind,
        action: state.action.as_ref().to_owned(),
        queue_name: state.queue.as_ref().to_owned(),
        status: state.status,
        label: new.label.map(Into::into),
        order: state.parent.is_some().then_some(state.order),
        parent_id: state.parent,
        sender_url,
        receiver_url,
        sender_ssl_cert,
        receiver_ssl_cert,
        is_received: role == Role::Received,
        is_local: role == Role::Local,
        created_date: new.created_at,
        last_modified_date: state.modified_at,
        input_data: new.input,
        pingback_date: new.pingback_at,
        expiration_date: state.expires_at,
        info: new.info.map(Into::into),
        trace: state.trace.map(|trace| trace.as_ref().to_owned()),
        attempt: state.attempt,
        failures: state.failures,
        run_date: state.run_at,
        output_data: row.json()?,
        reservation_data: row.json()?,
        progress: row.json()?,
        pruned_date: row.at_if_any()?,
    })
}

/// A message of either direction, as [`messages`](super::database::Store::messages) selects it.
pub(super) fn message(row: &Row) -> Result<MessageRecord> {
    let row = &mut Fields::of("messages", row);
    let is_received = row.flag()?;
    let (peer, here) = (PeerUrl::trusted(row.get()?), PeerUrl::trusted(row.get()?));
    let data = row.json()?;
    let (direction, sender_url, receiver_url, input_data) = match is_received {
        true => (Direction::In, peer, here, data),
        false => (Direction::Out, here, peer, payload(&data)),
    };
    Ok(MessageRecord {
        direction,
        sender_url,
        receiver_url,
        is_received,
        input_data,
        id: row.text()?,
        action: row.get()?,
        queue_name: row.get()?,
        task_id: row.text_if_any()?,
        output_status: row.get()?,
        created_date: row.at()?,
        state: row.code(message_state)?.to_owned(),
        attempts: row.get()?,
        next_attempt_date: row.at_if_any()?,
        last_error: row.get()?,
    })
}

fn message_state(code: i64) -> Option<&'static str> {
    if code == ACCEPTED {
        return Some("accepted");
    }
    Some(match OutboxState::from_code(code)? {
        OutboxState::Pending => "pending",
        OutboxState::Delivered => "delivered",
        OutboxState::Failed => "failed",
    })
}

/// The payload in the body of a sent message. Not left to the databases: one would change its
/// spaces, the other refuses texts with `\u0000`.
fn payload(body: &Json) -> Json {
    #[derive(serde::Deserialize)]
    struct Envelope {
        data: Option<Json>,
    }
    serde_json::from_str::<Envelope>(body.get())
        .ok()
        .and_then(|envelope| envelope.data)
        .unwrap_or_else(null)
}
