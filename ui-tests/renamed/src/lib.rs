//! Nothing but tests: `tests/renamed.rs`.
