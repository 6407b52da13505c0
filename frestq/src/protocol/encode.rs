//! The body of a message that goes out.

use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::model::{Json, MessageId, Outgoing, PeerUrl, Status, TaskId, to_json};

/// What the receiver of a message can read, and is called.
pub(crate) struct Receiver<'a> {
    pub(crate) url: &'a PeerUrl,
    pub(crate) extensions: bool,
}

/// What a message holds.
pub(crate) enum Payload<'a> {
    Task {
        input: &'a RawValue,
        info: Option<&'a str>,
        pingback_at: Option<Timestamp>,
    },
    Update {
        status: Status,
        output: &'a RawValue,
    },
    Synchronize {
        queue: &'a str,
        action: &'a str,
        input: &'a RawValue,
        pingback_at: Option<Timestamp>,
    },
    Confirm {
        reservation: &'a RawValue,
        seconds: u64,
    },
    Execute {
        queue: &'a str,
        action: &'a str,
        input: &'a RawValue,
    },
    Data(&'a RawValue),
}

/// What a message says of itself. The members that are `None` are left out.
#[derive(Serialize)]
struct Body<'a> {
    message_id: &'a MessageId,
    action: &'a str,
    sender_url: &'a PeerUrl,
    data: &'a RawValue,
    task_id: &'a TaskId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pingback_date: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expiration_date: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    info: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ext: Option<Ext<'a>>,
}

/// What only a peer that reads extensions gets.
#[derive(Serialize)]
struct Ext<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    rev: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    round: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<&'a str>,
    destination: &'a PeerUrl,
}

/// Writes the body of a message. From here on its bytes don't change.
pub(crate) fn freeze(
    message: &Outgoing,
    payload: &Payload<'_>,
    id: &MessageId,
    sender: &PeerUrl,
    receiver: &Receiver<'_>,
) -> serde_json::Result<String> {
    let written = written_data(message, payload, receiver)?;
    let (data, info, pingback_at) = match *payload {
        Payload::Task {
            input,
            info,
            pingback_at,
        } => (input, info, pingback_at),
        Payload::Data(data) => (data, None, None),
        _ => (written.as_deref().unwrap_or(RawValue::NULL), None, None),
    };
    let expires_at = match payload {
        // The date stands within the data, as the original has it.
        Payload::Synchronize { .. } => None,
        // The participant has the date from before.
        Payload::Execute { .. } => None,
        _ => message.expires_at,
    };
    serde_json::to_string(&Body {
        message_id: id,
        action: &message.action,
        sender_url: sender,
        data,
        task_id: &message.task,
        pingback_date: pingback_at.map(|at| write_date(at, receiver.extensions)),
        expiration_date: expires_at.map(|at| write_date(at, receiver.extensions)),
        info,
        ext: receiver.extensions.then_some(Ext {
            rev: message.rev,
            round: message.round,
            trace: message.trace.as_deref(),
            destination: receiver.url,
        }),
    })
}

/// The data of an internal action; none where the payload is the data.
fn written_data(
    message: &Outgoing,
    payload: &Payload<'_>,
    receiver: &Receiver<'_>,
) -> serde_json::Result<Option<Json>> {
    #[derive(Serialize)]
    struct Update<'a> {
        output_data: &'a RawValue,
        status: Status,
    }
    #[derive(Serialize)]
    struct Synchronize<'a> {
        task_id: &'a TaskId,
        action: &'a str,
        queue_name: &'a str,
        pingback_date: Option<String>,
        input_data: &'a RawValue,
        expiration_date: Option<String>,
    }
    #[derive(Serialize)]
    struct Confirm<'a> {
        reservation_data: &'a RawValue,
        reservation_expiration_seconds: u64,
    }
    #[derive(Serialize)]
    struct Execute<'a> {
        action: &'a str,
        queue_name: &'a str,
        input_data: &'a RawValue,
    }
    let date = |at: Option<Timestamp>| at.map(|at| write_date(at, receiver.extensions));
    let data = match *payload {
        Payload::Task { .. } | Payload::Data(_) => return Ok(None),
        Payload::Update { status, output } => to_json(&Update {
            output_data: output,
            status,
        }),
        Payload::Synchronize {
            queue,
            action,
            input,
            pingback_at,
        } => to_json(&Synchronize {
            task_id: &message.task,
            action,
            queue_name: queue,
            pingback_date: date(pingback_at),
            input_data: input,
            expiration_date: date(message.expires_at),
        }),
        Payload::Confirm {
            reservation,
            seconds,
        } => to_json(&Confirm {
            reservation_data: reservation,
            reservation_expiration_seconds: seconds,
        }),
        Payload::Execute {
            queue,
            action,
            input,
        } => to_json(&Execute {
            action,
            queue_name: queue,
            input_data: input,
        }),
    };
    data.map(Some)
}

/// Writes a date for a peer that reads our extensions, or for an original one.
fn write_date(at: Timestamp, extensions: bool) -> String {
    if extensions {
        at.to_string()
    } else {
        TimeZone::UTC.to_datetime(at).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::fields::parse_date, *};

    #[test]
    fn an_original_peer_gets_naive_dates() {
        let at = parse_date("2026-11-24T02:50:52.123456").unwrap();
        assert_eq!(write_date(at, false), "2026-11-24T02:50:52.123456");
        assert_eq!(write_date(at, true), "2026-11-24T02:50:52.123456Z");
        assert_eq!(
            write_date(parse_date("2026-11-24T02:50:52").unwrap(), false),
            "2026-11-24T02:50:52"
        );
    }
}
