//! Texts as both databases can hold them.

/// Text for people, without the one character that Postgres can't store.
pub(super) fn printable(text: &str) -> String {
    text.replace('\0', "\u{FFFD}")
}
