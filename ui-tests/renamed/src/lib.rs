//! Empty: the tests are in `tests/renamed.rs`.
