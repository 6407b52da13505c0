//! A federated REST task queue: organisations that run a *peer* each hand one another *tasks* over
//! HTTP, with no broker between them. A task is on the sender's disk before it is sent and on the
//! receiver's before it is acknowledged; its result comes back the same way. The protocol is RESTQP,
//! that of the Python frestq, with whose peers these work together.
//!
//! # A peer that serves a task
//!
//! This is the whole binary. It has a command line, which `--help` shows; `--createdb` makes its
//! database.
//!
//! ```no_run
//! use frestq::prelude::*;
//!
//! #[derive(Deserialize)]
//! struct Hello {
//!     username: String,
//! }
//!
//! #[frestq::task(queue = "say_queue", action = "hello_world")]
//! async fn hello_world(input: Hello) -> anyhow::Result<String> {
//!     Ok(format!("hello {}!", input.username))
//! }
//!
//! frestq::main!(|app| app.configure(|c| c.port = 5001));
//! ```
//!
//! # A peer that sends one
//!
//! ```no_run
//! use frestq::prelude::*;
//!
//! #[derive(Serialize, Deserialize, Action)]
//! #[action(queue = "say_queue", action = "hello_world", output = String)]
//! struct Hello {
//!     username: String,
//! }
//!
//! async fn say_hello(
//!     State(peer): State<Frestq>,
//!     Path(username): Path<String>,
//! ) -> frestq::Result<String> {
//!     let task = peer.send(Hello { username }.to("http://127.0.0.1:5001/api/queues")).await?;
//!     task.output().await
//! }
//!
//! frestq::main!(|app| app.route("/say/hello/{username}", post(say_hello)));
//! ```
//!
//! # Concepts
//!
//! A **peer** is known by its *root queues URL*, such as `http://127.0.0.1:5001/api/queues`
//! ([`PeerUrl`]). It serves **queues**; an **action** is what can be asked for in a queue, and a
//! **handler** is the function that does it: see [`#[frestq::task]`](macro@task), and
//! [`#[frestq::message]`](macro@message) for messages that are no tasks. How many handlers of a queue
//! run at the same time is set by [`QueueConfig`].
//!
//! A **task** has the same id on the peer that sent it and on the one that runs it, and a [`Status`]
//! on each. One that has ended never changes. [`Action`](trait@Action) is the contract of an action in
//! one type, [`SimpleTask`] a task before it is sent, [`TaskHandle`] after that, [`Task`] what its
//! handler sees.
//!
//! A handler may add tasks to its own, for any peer: together they are a **tree**, which ends as one
//! ([`Task::add`], [`Sequential`], [`Parallel`], [`Synchronized`] for what starts together, and [`External`]
//! for what a person decides).
//!
//! **Delivery** is tried until the task expires, and a message takes effect once, however often it is
//! delivered. **Handlers** run at least once: a run that a crash cut off is repeated, unless the action
//! is `at_most_once`. What must happen exactly once goes through [`Task::transaction`], or under
//! [`Task::effect_key`].
//!
//! # Where to go on
//!
//! [`main!`](crate::main) for the binary, [`App`] for what it can be given, [`Config`] for what can be
//! set, [`Error`] and [`TaskError`] for what can fail.

#![cfg_attr(
    not(test),
    warn(clippy::expect_used, clippy::print_stdout, clippy::unwrap_used)
)]

// The README's code compiles.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

// Generated code names this crate `::frestq`, in its own unit tests too.
#[cfg(test)]
extern crate self as frestq;

mod api;
mod cli;
mod commit;
mod config;
mod engine;
pub mod guide;
mod http;
mod inbox;
mod logging;
mod maintenance;
mod model;
mod operator;
mod outbox;
mod peers;
mod protocol;
mod runtime;
mod security;
mod server;
mod services;
mod store;
mod worker;

#[doc(hidden)]
pub use api::private as __private;
pub use api::{
    compose::{Action, Compose, External, Node, Parallel, Sequential, SimpleTask, Synchronized},
    context::{Sender, Task},
    director::{Director, Group, Subtask},
    handler::{FromTask, Handler, IntoOutcome, Recovery, Requirements},
    macros::{Action, director, message, task},
    named_director::NamedDirector,
    peer::{ExternalTask, Frestq, TaskHandle},
    peers::{Peer, PeerRecord, RegisteredPeers},
    prelude,
    relative::{Relative, Relatives},
};
pub use config::{Config, DeliveryConfig, Limits, PeerConfig, ProxyConfig, QueueConfig, TlsConfig};
pub use model::{
    Direction, InvalidPeerUrl, Json, MessageId, MessageRecord, PeerUrl, Role, Status, TaskId,
    TaskKind, TaskRecord,
    error::{DatabaseError, Error, JsonError, Result, TaskError},
    raw_message::Message,
    statements::{Param, Params, Transaction},
};
pub use server::{App, RunningPeer};
