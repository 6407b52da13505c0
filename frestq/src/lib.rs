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
//!
//! # Features
//!
//! All are on by default. What needs one is missing in a build without it, and this documentation
//! shows everything.
//!
//! | feature | what it adds | implies |
//! |---|---|---|
//! | `server` | a peer: everything but what the next paragraph lists. It needs `sqlite`, `postgres` or both | |
//! | `sqlite` | a database in a file (`sqlite:PATH`), for one process | `server` |
//! | `postgres` | a database on a server (`postgres://...`), for several processes; encrypted only with `tls` | `server` |
//! | `cli` | [`main!`](crate::main), [`App::run`] and the log; [`App::serve`] and [`App::start`] need none of it | `server` |
//! | `tls` | `[tls]`, `[peers]` and `[proxy]`, which are errors at start without it: the peer serves its own machine only | `server` |
//!
//! With `default-features = false` this crate is the *contract* that organisations share: a crate
//! of types that says what can be asked for, without a server, a database or TLS. It has
//! [`Action`](trait@Action) with its derive, [`SimpleTask`], [`Sequential`], [`Parallel`],
//! [`Synchronized`], [`External`], [`Compose`], [`Node`], [`NamedDirector`], [`TaskId`],
//! [`MessageId`], [`PeerUrl`], [`Status`], [`TaskKind`], [`Json`], [`TaskError`], [`Error`], and
//! the part of the [`prelude`] that these are.

#![cfg_attr(
    not(test),
    warn(clippy::expect_used, clippy::print_stdout, clippy::unwrap_used)
)]
// A build without some feature leaves unused what only that feature uses. The default build,
// which has all of them, is linted in full.
#![cfg_attr(
    not(all(
        feature = "sqlite",
        feature = "postgres",
        feature = "cli",
        feature = "tls"
    )),
    allow(
        dead_code,
        unused_imports,
        unused_variables,
        reason = "their only users are behind a feature that is off"
    )
)]

// The README's code compiles.
#[cfg(all(doctest, feature = "cli"))]
#[doc = include_str!("../../README.md")]
struct Readme;

// Generated code refers to this crate as `::frestq`, also in its own unit tests.
#[cfg(test)]
extern crate self as frestq;

#[cfg(all(feature = "server", not(any(feature = "sqlite", feature = "postgres"))))]
compile_error!(
    "a peer needs a database: enable the feature `sqlite` or `postgres` of frestq beside `server`"
);

mod api;
mod model;

#[cfg(feature = "cli")]
mod cli;
#[cfg(feature = "server")]
mod commit;
#[cfg(feature = "server")]
mod config;
#[cfg(feature = "server")]
mod engine;
#[cfg(feature = "server")]
pub mod guide;
#[cfg(feature = "server")]
mod http;
#[cfg(feature = "server")]
mod inbox;
#[cfg(feature = "cli")]
mod logging;
#[cfg(feature = "server")]
mod maintenance;
#[cfg(feature = "server")]
mod operator;
#[cfg(feature = "server")]
mod outbox;
#[cfg(feature = "server")]
mod peers;
#[cfg(feature = "server")]
mod protocol;
#[cfg(feature = "server")]
mod runtime;
#[cfg(feature = "server")]
mod security;
#[cfg(feature = "server")]
mod server;
#[cfg(feature = "server")]
mod services;
#[cfg(feature = "server")]
mod store;
#[cfg(feature = "server")]
mod worker;

#[cfg(feature = "server")]
#[doc(hidden)]
pub use api::private as __private;
pub use api::{
    compose::{Action, Compose, External, Node, Parallel, Sequential, SimpleTask, Synchronized},
    macros::Action,
    named_director::NamedDirector,
    prelude,
};
#[cfg(feature = "server")]
pub use api::{
    context::{Sender, Task},
    director::{Director, Group, Subtask},
    handler::{FromTask, Handler, IntoOutcome, Recovery, Requirements},
    macros::{director, message, task},
    peer::{ExternalTask, Frestq, TaskHandle},
    peers::{Peer, PeerRecord, RegisteredPeers},
    relative::{Relative, Relatives},
};
#[cfg(feature = "server")]
pub use config::{Config, DeliveryConfig, Limits, PeerConfig, ProxyConfig, QueueConfig, TlsConfig};
#[cfg(feature = "server")]
pub use model::{
    Direction, MessageRecord, Role, TaskRecord,
    raw_message::Message,
    statements::{Param, Params, Transaction},
};
pub use model::{
    InvalidPeerUrl, Json, MessageId, PeerUrl, Status, TaskId, TaskKind,
    error::{DatabaseError, Error, JsonError, Result, TaskError},
};
#[cfg(feature = "server")]
pub use server::{App, RunningPeer};

/// What the derive of `Action` names.
#[cfg(not(feature = "server"))]
#[doc(hidden)]
pub mod __private {
    pub use serde::Serialize;
    pub use serde_json::Value;
}

/// The binary of a peer needs the feature `cli`.
#[cfg(not(feature = "cli"))]
#[macro_export]
macro_rules! main {
    ($($configure:tt)*) => {
        ::std::compile_error!(
            "frestq::main! needs the feature `cli` of frestq; a peer without it starts by `App::serve` or `App::start`"
        );
        fn main() {}
    };
}
