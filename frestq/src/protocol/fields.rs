//! The fields of a message: read leniently in form, strictly in content.

use std::borrow::Cow;

use jiff::{Timestamp, civil, tz::TimeZone};
use serde::Deserialize;
use serde_json::value::RawValue;

/// JSON `null` counts as absent.
pub(super) fn present(value: Option<&RawValue>) -> Option<&RawValue> {
    value.filter(|value| value.get() != "null")
}

pub(super) fn required<'a>(
    value: Option<&'a RawValue>,
    field: &str,
    longest: usize,
) -> Result<Cow<'a, str>, String> {
    optional(value, field, longest)?.ok_or_else(|| format!("field `{field}` is missing"))
}

pub(super) fn optional<'a>(
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

pub(super) fn date(value: Option<&RawValue>, field: &str) -> Result<Option<Timestamp>, String> {
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

/// The fields of an object in `data`.
pub(super) fn members<'a, T: Deserialize<'a>>(data: &'a RawValue) -> Result<T, String> {
    serde_json::from_str(data.get())
        .map_err(|_| format!("field `data` must be an object, not {}", kind(data)))
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
