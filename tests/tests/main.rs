//! Federations of real peers: processes, sockets and databases as in production, put through what
//! can go wrong. One module per subject; the tools are in `harness`.
//!
//! Every test runs on SQLite, and on Postgres too if `FRESTQ_TEST_POSTGRES` names a server on which
//! databases may be made: `FRESTQ_TEST_POSTGRES=postgres://me@localhost/postgres cargo test`.

#[macro_use]
mod harness;

mod audit;
mod bad_input;
mod crash;
mod dedupe;
mod delivery;
mod docs;
mod embedding;
mod examples;
mod expiry;
mod fuzz;
mod handlers;
mod hostile;
mod layers;
mod lifecycle;
mod matrix;
mod operator;
mod options;
mod peers;
mod pressure;
mod processes;
mod proxy;
mod pruning;
mod synchronized;
mod tls;
mod trees;
mod wire;
mod wire_trees;
