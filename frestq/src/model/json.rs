//! JSON payloads, which are opaque: the received text is kept unchanged, with its numbers and key
//! order.

use serde::Serialize;
use serde_json::value::RawValue;

/// Any JSON value, as text that is known to be valid.
pub type Json = Box<RawValue>;

/// JSON `null`.
pub(crate) fn null() -> Json {
    RawValue::NULL.to_owned()
}

/// Serializes a value to JSON text.
pub(crate) fn to_json<T: Serialize + ?Sized>(value: &T) -> serde_json::Result<Json> {
    serde_json::value::to_raw_value(value)
}
