//! The envelope of a message that came in.

use std::{borrow::Cow, collections::BTreeMap};

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    action::InternalAction,
    fields::{date, optional, present, required},
};
use crate::model::{Json, MessageId, PeerUrl, TaskId, null};

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
    /// As it came: what can't be a trace costs no task.
    pub(crate) trace: Option<Json>,
}

/// The members of an envelope as they came. Unknown ones are ignored.
#[derive(Deserialize)]
struct Fields<'a> {
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
struct Ext {
    rev: Option<i64>,
    round: Option<i64>,
    destination: Option<String>,
    trace: Option<Json>,
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
        let members: Fields<'_> =
            serde_json::from_str(text).map_err(|e| format!("not a JSON object: {e}"))?;
        let ext: Ext = match present(members.ext) {
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
            trace: ext.trace,
            destination: ext
                .destination
                .map(|url| url.parse())
                .transpose()
                .map_err(|e| format!("field `ext.destination`: {e}"))?,
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(members: &str) -> Result<Envelope, String> {
        Envelope::parse(&format!(
            r#"{{"message_id":"m","action":"a","sender_url":"http://127.0.0.1:5000/api/queues"{members}}}"#
        ))
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
    fn nesting_is_counted_outside_of_strings_only() {
        let brackets = "[".repeat(100);
        assert!(envelope(&format!(r#","data":"{brackets}\"{brackets}""#)).is_ok());
        let deep = |n: usize| format!(r#","data":{}{}"#, "[".repeat(n), "]".repeat(n));
        assert!(envelope(&deep(63)).is_ok());
        assert!(envelope(&deep(64)).unwrap_err().contains("64"));
    }

    #[test]
    fn what_stands_in_the_place_of_a_trace_is_read_as_it_is() {
        for (ext, trace) in [
            (r#"{"trace":"t"}"#, Some(r#""t""#)),
            (r#"{"trace":[1]}"#, Some("[1]")),
            ("{}", None),
        ] {
            let read = envelope(&format!(r#","ext":{ext}"#)).unwrap();
            assert_eq!(read.trace.as_ref().map(|t| t.get()), trace);
        }
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
}
