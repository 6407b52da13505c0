//! Nothing but tests: `tests/ui.rs`.
