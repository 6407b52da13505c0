//! The guide: a page a subject. Its Rust code is compiled, and its shell commands are run, by the
//! tests.
//!
//! Decision records, on why things are as they are, stand beside it in `frestq/docs/decisions/`.

#[doc = include_str!("../docs/tutorial.md")]
pub mod tutorial {}

#[doc = include_str!("../docs/concepts.md")]
pub mod concepts {}

#[doc = include_str!("../docs/trees.md")]
pub mod trees {}

#[doc = include_str!("../docs/errors-and-retries.md")]
pub mod errors_and_retries {}

#[doc = include_str!("../docs/transactions-and-idempotency.md")]
pub mod transactions_and_idempotency {}

#[doc = include_str!("../docs/peers-and-certificates.md")]
pub mod peers_and_certificates {}

#[doc = include_str!("../docs/behind-a-proxy.md")]
pub mod behind_a_proxy {}

#[doc = include_str!("../docs/configuration.md")]
pub mod configuration {}

#[doc = include_str!("../docs/command-line.md")]
pub mod command_line {}

#[doc = include_str!("../docs/embedding.md")]
pub mod embedding {}

#[doc = include_str!("../docs/testing.md")]
pub mod testing {}

#[doc = include_str!("../docs/operations.md")]
pub mod operations {}

#[doc = include_str!("../docs/protocol.md")]
pub mod protocol {}

#[doc = include_str!("../docs/security-model.md")]
pub mod security_model {}

#[doc = include_str!("../docs/performance.md")]
pub mod performance {}

#[doc = include_str!("../docs/glossary.md")]
pub mod glossary {}
