//! The envelope: read leniently in form, strictly in content; written once and then frozen.

use std::{borrow::Cow, collections::BTreeMap};

use jiff::{Timestamp, civil, tz::TimeZone};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::action::InternalAction;
use crate::model::{
    Json, MessageId, Outgoing, PeerUrl, Status, TaskId, check_trace, null, to_json,
};

/// A message may nest this deep, itself included.
const DEEPEST: usize = 64;

/// What an update puts around the output, which came as an input that stood one level higher.
const AROUND_AN_OUTPUT: usize = 1;

/// What a batch puts around each message: itself, its list, the entry.
const AROUND_A_MESSAGE: usize = 3;

/// How deep a batch may nest. Its messages are then checked one by one.
const DEEPEST_BATCH: usize = DEEPEST + AROUND_AN_OUTPUT + AROUND_A_MESSAGE;

/// How deep a message of this action may nest.
fn deepest(action: &str) -> usize {
    match action.parse() {
        Ok(InternalAction::Batch) => DEEPEST_BATCH,
        Ok(
            InternalAction::UpdateTask
            | InternalAction::SynchronizeTask
            | InternalAction::ExecuteSynchronized
            | InternalAction::ConfirmReservation,
        ) => DEEPEST + AROUND_AN_OUTPUT,
        _ => DEEPEST,
    }
}

/// A message that came in, with every field checked.
#[derive(Debug)]
pub(crate) struct Envelope {
    pub(crate) message_id: MessageId,
    pub(crate) action: String,
    pub(crate) sender: PeerUrl,
    pub(crate) task_id: Option<TaskId>,
    pub(crate) data: Json,
    pub(crate) pingback_date: Option<Timestamp>,
    pub(crate) expiration_date: Option<Timestamp>,
    pub(crate) info: Option<String>,
    pub(crate) rev: Option<i64>,
    pub(crate) round: Option<i64>,
    pub(crate) destination: Option<PeerUrl>,
    pub(crate) trace: Option<String>,
}

/// The members of an envelope as they came. Unknown ones are ignored.
#[derive(Deserialize)]
struct PeerSet<'a> {
    #[serde(borrow)]
    message_id: Option<&'a RawValue>,
    #[serde(borrow)]
    action: Option<&'a RawValue>,
    #[serde(borrow)]
    sender_url: Option<&'a RawValue>,
    #[serde(borrow)]
    task_id: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    async_data: Option<&'a RawValue>,
    #[serde(borrow)]
    pingback_date: Option<&'a RawValue>,
    #[serde(borrow)]
    expiration_date: Option<&'a RawValue>,
    #[serde(borrow)]
    info: Option<&'a RawValue>,
    // What the original reads, while it writes `info`.
    #[serde(borrow)]
    info_text: Option<&'a RawValue>,
    #[serde(borrow)]
    ext: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Ext<'a> {
    rev: Option<i64>,
    round: Option<i64>,
    destination: Option<String>,
    #[serde(borrow)]
    trace: Option<&'a RawValue>,
}

impl Envelope {
    /// Reads a message. The error names the field and what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let depth = depth(text, DEEPEST_BATCH)?;
        if !text
            .trim_start_matches([' ', '\t', '\n', '\r'])
            .starts_with('{')
        {
            // Serde would also take an array for a struct.
            return Err("a message is a JSON object".into());
        }
        let members: PeerSet<'_> =
            serde_json::from_str(text).map_err(|e| format!("not a JSON object: {e}"))?;
        let ext: Ext<'_> = match present(members.ext) {
            Some(ext) => {
                serde_json::from_str(ext.get()).map_err(|e| format!("field `ext`: {e}"))?
            }
            None => Ext::default(),
        };
        if let Some(async_data) = present(members.async_data) {
            let _: BTreeMap<String, String> = serde_json::from_str(async_data.get())
                .map_err(|e| format!("field `async_data` must be an object of name -> URL: {e}"))?;
        }
        let sender = required(members.sender_url, "sender_url", 1024)?;
        let action = required(members.action, "action", 1024)?;
        if depth > deepest(&action) {
            return Err(too_deep(deepest(&action)));
        }
        let message_id = required(members.message_id, "message_id", 1024)?;
        if message_id.is_empty() {
            return Err("field `message_id` is empty".into());
        }
        let task_id = optional(members.task_id, "task_id", 128)?;
        if task_id.as_deref() == Some("") {
            return Err("field `task_id` is empty".into());
        }
        Ok(Self {
            message_id: message_id.into_owned().into(),
            action: action.into_owned(),
            sender: sender
                .parse()
                .map_err(|e| format!("field `sender_url`: {e}"))?,
            task_id: task_id.map(|id| id.into_owned().into()),
            data: members.data.map_or_else(null, ToOwned::to_owned),
            pingback_date: date(members.pingback_date, "pingback_date")?,
            expiration_date: date(members.expiration_date, "expiration_date")?,
            info: match optional(members.info, "info", 1024)? {
                Some(info) => Some(info.into_owned()),
                None => optional(members.info_text, "info_text", 1024)?.map(Cow::into_owned),
            },
            rev: ext.rev,
            round: ext.round,
            trace: present(ext.trace).and_then(trace),
            destination: ext
                .destination
                .map(|url| url.parse())
                .transpose()
                .map_err(|e| format!("field `ext.destination`: {e}"))?,
        })
    }
}

/// The trace that travels with a task. One that can't be kept is ignored: it serves people who look for a
/// cause, and a task must not be lost for it.
fn trace(value: &RawValue) -> Option<String> {
    let read = serde_json::from_str::<String>(value.get())
        .map_err(|_| format!("a trace that is not a string but {}", kind(value)))
        .and_then(|text| check_trace(&text).map(|()| text));
    if let Err(why) = &read {
        tracing::debug!("field `ext.trace` is ignored: {why}");
    }
    read.ok()
}

/// JSON `null` counts as absent.
fn present(value: Option<&RawValue>) -> Option<&RawValue> {
    value.filter(|value| value.get() != "null")
}

fn required<'a>(
    value: Option<&'a RawValue>,
    field: &str,
    longest: usize,
) -> Result<Cow<'a, str>, String> {
    optional(value, field, longest)?.ok_or_else(|| format!("field `{field}` is missing"))
}

fn optional<'a>(
    value: Option<&'a RawValue>,
    field: &str,
    longest: usize,
) -> Result<Option<Cow<'a, str>>, String> {
    let Some(value) = present(value) else {
        return Ok(None);
    };
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    let Text(text) = serde_json::from_str(value.get())
        .map_err(|_| format!("field `{field}` must be a string, not {}", kind(value)))?;
    if text.contains('\0') {
        return Err(format!("field `{field}` holds the character U+0000"));
    }
    let length = text.chars().count();
    if length > longest {
        return Err(format!(
            "field `{field}` has {length} characters; at most {longest} are allowed"
        ));
    }
    Ok(Some(text))
}

fn date(value: Option<&RawValue>, field: &str) -> Result<Option<Timestamp>, String> {
    let Some(text) = optional(value, field, 64)? else {
        return Ok(None);
    };
    parse_date(&text).map(Some).ok_or_else(|| {
        format!("field `{field}` is no ISO-8601 date such as 2026-11-24T02:50:52.123456 or 2026-11-24T02:50:52Z")
    })
}

/// Reads a date; one without an offset is UTC.
pub(crate) fn parse_date(text: &str) -> Option<Timestamp> {
    let at = text.parse::<Timestamp>().ok().or_else(|| {
        let naive: civil::DateTime = text.parse().ok()?;
        TimeZone::UTC.to_timestamp(naive).ok()
    })?;
    Timestamp::from_microsecond(at.as_microsecond()).ok()
}

/// Writes a date for a peer that reads our extensions, or for an original one.
fn write_date(at: Timestamp, extensions: bool) -> String {
    if extensions {
        at.to_string()
    } else {
        TimeZone::UTC.to_datetime(at).to_string()
    }
}

fn kind(value: &RawValue) -> &'static str {
    match value.get().as_bytes().first() {
        Some(b'"') => "a string with an invalid escape",
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

fn too_deep(most: usize) -> String {
    format!("nested deeper than {most} levels")
}

/// How deep the text nests; refuses more than `most` before anything recurses into it.
fn depth(text: &str, most: usize) -> Result<usize, String> {
    let (mut deepest, mut depth, mut in_string, mut escaped) = (0, 0usize, false, false);
    for byte in text.bytes() {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
                if depth > most {
                    return Err(too_deep(most));
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(deepest)
}

/// The data of [`InternalAction::UpdateTask`].
#[derive(Debug)]
pub(crate) struct UpdateData {
    pub(crate) status: Status,
    pub(crate) output: Json,
}

impl UpdateData {
    pub(crate) fn parse(data: &RawValue) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct PeerSet<'a> {
            #[serde(borrow)]
            status: Option<&'a RawValue>,
            #[serde(borrow)]
            output_data: Option<&'a RawValue>,
        }
        let members: PeerSet<'_> = members(data)?;
        let status = required(members.status, "data.status", 64)?;
        let status = status
            .parse::<Status>()
            .ok()
            .filter(|status| status.on_the_wire() == *status)
            .ok_or_else(|| {
                format!("field `data.status`: {status:?} is no status of a task on the wire")
            })?;
        Ok(Self {
            status,
            output: members.output_data.map_or_else(null, ToOwned::to_owned),
        })
    }
}

/// The data of [`InternalAction::SynchronizeTask`] and, without the dates, of
/// [`InternalAction::ExecuteSynchronized`].
#[derive(Debug)]
pub(crate) struct PerformData {
    pub(crate) task_id: Option<TaskId>,
    pub(crate) queue: String,
    pub(crate) action: String,
    pub(crate) input: Json,
    pub(crate) pingback_date: Option<Timestamp>,
    pub(crate) expiration_date: Option<Timestamp>,
}

impl PerformData {
    pub(crate) fn parse(data: &RawValue) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct PeerSet<'a> {
            #[serde(borrow)]
            task_id: Option<&'a RawValue>,
            #[serde(borrow)]
            action: Option<&'a RawValue>,
            #[serde(borrow)]
            queue_name: Option<&'a RawValue>,
            #[serde(borrow)]
            input_data: Option<&'a RawValue>,
            #[serde(borrow)]
            pingback_date: Option<&'a RawValue>,
            #[serde(borrow)]
            expiration_date: Option<&'a RawValue>,
        }
        let members: PeerSet<'_> = members(data)?;
        let task_id = optional(members.task_id, "data.task_id", 128)?;
        if task_id.as_deref() == Some("") {
            return Err("field `data.task_id` is empty".into());
        }
        Ok(Self {
            task_id: task_id.map(|id| id.into_owned().into()),
            queue: required(members.queue_name, "data.queue_name", 1024)?.into_owned(),
            action: required(members.action, "data.action", 1024)?.into_owned(),
            input: members.input_data.map_or_else(null, ToOwned::to_owned),
            pingback_date: date(members.pingback_date, "data.pingback_date")?,
            expiration_date: date(members.expiration_date, "data.expiration_date")?,
        })
    }
}

/// The data of [`InternalAction::ConfirmReservation`].
#[derive(Debug)]
pub(crate) struct ConfirmData {
    pub(crate) reservation: Json,
    pub(crate) seconds: Option<u64>,
}

impl ConfirmData {
    pub(crate) fn parse(data: &RawValue) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct PeerSet<'a> {
            #[serde(borrow)]
            reservation_data: Option<&'a RawValue>,
            #[serde(borrow)]
            reservation_expiration_seconds: Option<&'a RawValue>,
        }
        let members: PeerSet<'_> = members(data)?;
        let seconds = present(members.reservation_expiration_seconds).map(|seconds| {
            serde_json::from_str::<f64>(seconds.get())
                .ok()
                .filter(|seconds| *seconds >= 0.0)
                .map(|seconds| seconds as u64)
                .ok_or("field `data.reservation_expiration_seconds` must be a number from 0")
        });
        Ok(Self {
            reservation: members
                .reservation_data
                .map_or_else(null, ToOwned::to_owned),
            seconds: seconds.transpose()?,
        })
    }
}

fn members<'a, T: Deserialize<'a>>(data: &'a RawValue) -> Result<T, String> {
    serde_json::from_str(data.get())
        .map_err(|_| format!("field `data` must be an object, not {}", kind(data)))
}

/// One message of a batch: its queue, and its envelope as text.
#[derive(Debug, Deserialize)]
pub(crate) struct BatchEntry {
    pub(crate) queue: String,
    pub(crate) message: Box<RawValue>,
}

/// Reads the data of `frestq.batch`.
pub(crate) fn parse_batch(data: &RawValue) -> Result<Vec<BatchEntry>, String> {
    serde_json::from_str(data.get())
        .map_err(|e| format!("field `data` must be a list of {{\"queue\", \"message\"}}: {e}"))
}

/// The answer to one message of a batch.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct BatchAnswer {
    pub(crate) message_id: String,
    pub(crate) status: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) message: Option<String>,
}

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
        trace: Option<&'a str>,
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
        trace: Option<&'a str>,
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

/// Writes the body of a message. From here on its bytes don't change.
pub(crate) fn freeze(
    message: &Outgoing,
    payload: &Payload<'_>,
    id: &MessageId,
    sender: &PeerUrl,
    receiver: &Receiver<'_>,
) -> serde_json::Result<String> {
    #[derive(Serialize)]
    struct Out<'a> {
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
        ext: Option<OutExt<'a>>,
    }
    #[derive(Serialize)]
    struct OutExt<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        rev: Option<i64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        round: Option<i64>,
        destination: &'a PeerUrl,
        #[serde(skip_serializing_if = "Option::is_none")]
        trace: Option<&'a str>,
    }
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
    let written;
    let mut expires_at = message.expires_at;
    let trace = match *payload {
        Payload::Task { trace, .. } | Payload::Synchronize { trace, .. } => trace,
        _ => None,
    };
    let (data, info, pingback_at) = match *payload {
        Payload::Task {
            input,
            info,
            pingback_at,
            ..
        } => (input, info, pingback_at),
        Payload::Update { status, output } => {
            written = to_json(&Update {
                output_data: output,
                status,
            })?;
            (&*written, None, None)
        }
        Payload::Synchronize {
            queue,
            action,
            input,
            pingback_at,
            ..
        } => {
            // It stands within, as the original has it.
            let expires_at = expires_at.take();
            written = to_json(&Synchronize {
                task_id: &message.task,
                action,
                queue_name: queue,
                pingback_date: pingback_at.map(|at| write_date(at, receiver.extensions)),
                input_data: input,
                expiration_date: expires_at.map(|at| write_date(at, receiver.extensions)),
            })?;
            (&*written, None, None)
        }
        Payload::Confirm {
            reservation,
            seconds,
        } => {
            written = to_json(&Confirm {
                reservation_data: reservation,
                reservation_expiration_seconds: seconds,
            })?;
            (&*written, None, None)
        }
        Payload::Execute {
            queue,
            action,
            input,
        } => {
            // The performer has the date from before.
            expires_at = None;
            written = to_json(&Execute {
                action,
                queue_name: queue,
                input_data: input,
            })?;
            (&*written, None, None)
        }
        Payload::Data(data) => (data, None, None),
    };
    serde_json::to_string(&Out {
        message_id: id,
        action: &message.action,
        sender_url: sender,
        data,
        task_id: &message.task,
        pingback_date: pingback_at.map(|at| write_date(at, receiver.extensions)),
        expiration_date: expires_at.map(|at| write_date(at, receiver.extensions)),
        info,
        ext: receiver.extensions.then_some(OutExt {
            rev: message.rev,
            round: message.round,
            destination: receiver.url,
            trace,
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(members: &str) -> Result<Envelope, String> {
        Envelope::parse(&format!(
            r#"{{"message_id":"m","action":"a","sender_url":"http://127.0.0.1:5000/api/queues"{members}}}"#
        ))
    }

    #[test]
    fn a_date_without_an_offset_is_utc() {
        let naive = parse_date("2026-11-24T02:50:52.123456").unwrap();
        assert_eq!(naive, parse_date("2026-11-24T02:50:52.123456Z").unwrap());
        assert_eq!(
            naive,
            parse_date("2026-11-24T03:50:52.123456+01:00").unwrap()
        );
        assert_eq!(
            parse_date("2026-11-24T02:50:52").unwrap().as_second() % 60,
            52
        );
        assert!(parse_date("yesterday").is_none());
    }

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

    #[test]
    fn both_spellings_of_info_are_read() {
        assert_eq!(
            envelope(r#","info":"x""#).unwrap().info.as_deref(),
            Some("x")
        );
        assert_eq!(
            envelope(r#","info_text":"y""#).unwrap().info.as_deref(),
            Some("y")
        );
        assert_eq!(envelope("").unwrap().info, None);
    }

    #[test]
    fn a_payload_is_kept_to_the_letter() {
        let text = r#"{ "z":1.0e5, "a" : 12345678901234567890123, "d":"2026-11-24T02:50:52.123456", "u":"\u00e9" }"#;
        assert_eq!(
            envelope(&format!(r#","data":{text}"#)).unwrap().data.get(),
            text
        );
    }

    #[test]
    fn a_trace_that_can_not_be_kept_costs_no_message() {
        let read = |trace: &str| envelope(&format!(r#","ext":{{"trace":{trace}}}"#));
        let kept = "é".repeat(256);
        let trace = read(&format!("\"{kept}\"")).unwrap().trace;
        assert_eq!(trace.as_deref(), Some(kept.as_str()));
        let long = format!("\"{}\"", "x".repeat(513));
        for ignored in ["null", "7", "[]", r#""\u0000""#, &long] {
            assert_eq!(read(ignored).unwrap().trace, None, "{ignored}");
        }
    }

    #[test]
    fn nesting_is_counted_outside_of_strings_only() {
        let brackets = "[".repeat(100);
        assert!(envelope(&format!(r#","data":"{brackets}\"{brackets}""#)).is_ok());
        let deep = |n: usize| format!(r#","data":{}{}"#, "[".repeat(n), "]".repeat(n));
        assert!(envelope(&deep(63)).is_ok());
        assert!(envelope(&deep(64)).unwrap_err().contains("64"));
    }

    #[test]
    fn each_wrong_field_is_named() {
        for (members, field) in [
            (r#","task_id":5"#, "task_id"),
            (r#","task_id":"""#, "task_id"),
            (r#","info":[]"#, "info"),
            (r#","pingback_date":"soon""#, "pingback_date"),
            (r#","expiration_date":12"#, "expiration_date"),
            (r#","async_data":[1]"#, "async_data"),
            (r#","ext":7"#, "ext"),
        ] {
            let error = envelope(members).unwrap_err();
            assert!(error.contains(&format!("`{field}")), "{members}: {error}");
        }
        assert!(Envelope::parse("[]").unwrap_err().contains("object"));
        assert!(
            Envelope::parse("{}")
                .unwrap_err()
                .contains("`sender_url` is missing")
        );
    }

    #[test]
    fn only_statuses_of_the_wire_are_read_from_it() {
        let parse = |status: &str| {
            let data = RawValue::from_string(format!(r#"{{"status":"{status}","output_data":1}}"#))
                .unwrap();
            UpdateData::parse(&data)
        };
        assert_eq!(parse("finished").unwrap().status, Status::Finished);
        assert!(parse("cancelled").unwrap_err().contains("data.status"));
        assert!(parse("done").is_err());
    }
}
