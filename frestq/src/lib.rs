//! A federated REST task queue. Each organisation runs a *peer*, and peers send each other
//! *tasks* over HTTP, without a broker between them. A task is stored by the sender before it is
//! sent, and by the receiver before it is acknowledged; its result is returned the same way. The
//! protocol is RESTQP, that of the Python frestq, whose peers can work together with these.
//!
//! # A peer that serves a task
//!
//! This is the whole binary. `--help` shows its command line; `--createdb` creates its database.
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
//! # A peer that sends a task
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
//! A **peer** is identified by its *root queues URL*, such as `http://127.0.0.1:5001/api/queues`
//! ([`PeerUrl`]). It serves **queues**, which have **actions**, and a **handler** is the function
//! that runs an action: see [`#[frestq::task]`](macro@task), and
//! [`#[frestq::message]`](macro@message) for messages that are not tasks. [`QueueConfig`] limits
//! how many handlers of a queue run at the same time.
//!
//! A **task** has the same id on the sender and on the receiver, and a [`Status`] on each. A task
//! that has ended never changes. [`Action`](trait@Action) is the contract of an action as one
//! type. A task is a [`SimpleTask`] before it is sent, a [`TaskHandle`] after that, and a
//! [`Task`] for its handler.
//!
//! A handler can add subtasks to its task, for any peer. Together they are a **tree**, which ends
//! as a whole ([`Task::add`], [`Sequential`], [`Parallel`], [`Synchronized`] for subtasks that
//! start together, and [`External`] for the decision of a person).
//!
//! **Delivery** is retried until the task expires, and a message takes effect once, however often
//! it is delivered. **Handlers** run at least once: a run that a crash interrupts is repeated,
//! unless the action is `at_most_once`. For an effect that must happen exactly once, use
//! [`Task::transaction`] or [`Task::effect_key`].
//!
//! # Where to start
//!
//! [`main!`](crate::main) defines the binary, [`App`] is its builder, [`Config`] lists the
//! settings, [`Error`] and [`TaskError`] list what can fail.

#![cfg_attr(
    not(test),
    warn(clippy::expect_used, clippy::print_stdout, clippy::unwrap_used)
)]

// The README's code compiles.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

// Generated code refers to this crate as `::frestq`, also in its own unit tests.
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
