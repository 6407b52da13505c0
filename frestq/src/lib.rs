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
//! With `default-features = false` this crate is the *contract* that organisations share: a crate of
//! types that says what can be asked for, without a server, a database or TLS. It has
//! [`Action`](trait@Action) with its derive, [`SimpleTask`], [`Sequential`], [`Parallel`],
//! [`Synchronized`], [`External`], [`Compose`], [`Node`], [`NamedDirector`], [`TaskId`],
//! [`MessageId`], [`PeerUrl`], [`Status`], [`TaskKind`], [`Json`], [`TaskError`], [`Error`], and the
//! part of the [`prelude`] that these are.

// A build without some feature leaves unused what only that feature uses. The default build, which has
// all of them, is linted in full.
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

// Generated code names this crate `::frestq`, in its own unit tests too.
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
    error::{Error, Result, TaskError},
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
