//! RESTQP on paper: the envelope, the internal actions, batches and extensions, without any I/O.
//!
//! May import `model`.

pub(crate) mod action;
pub(crate) mod encode;
pub(crate) mod envelope;
mod fields;
pub(crate) mod internal_data;

pub(crate) use action::{INTERNAL_QUEUE, InternalAction};

/// The header by which a peer says what it reads beyond the original protocol.
pub(crate) const EXTENSIONS_HEADER: &str = "restqp-extensions";
/// What we say in it.
pub(crate) const EXTENSIONS: &str = "batch, ext";

/// Whether a value of that header shows a peer that reads batches and `ext`.
pub(crate) fn shows_extensions(header: Option<&str>) -> bool {
    header.is_some_and(|names| {
        let has = |wanted| {
            names
                .split(',')
                .any(|name| name.trim().eq_ignore_ascii_case(wanted))
        };
        has("batch") && has("ext")
    })
}
