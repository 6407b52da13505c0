//! Tasks as values: what to run, where, and how to type what comes back.

use std::{marker::PhantomData, time::Duration};

use jiff::Timestamp;
use serde::{Serialize, de::DeserializeOwned};

use super::named_director::NamedDirector;
use crate::model::{
    draft::{Draft, Target, When},
    error::Error,
    to_json,
};

/// The contract between two peers: which action of which queue, what goes in, what comes out.
///
/// Derived, on the type of the input:
///
/// ```
/// use frestq::prelude::*;
///
/// #[derive(Serialize, Deserialize, Action)]
/// #[action(queue = "say_queue", action = "hello_world", output = String)]
/// struct Hello {
///     username: String,
/// }
///
/// let task = Hello { username: "ada".into() }.to("http://127.0.0.1:5001/api/queues").label("greeting");
/// ```
///
/// Both peers may share the type from one crate; then a handler of this input needs no arguments in
/// `#[frestq::task]`, and its output is checked against `output` at compile time.
#[diagnostic::on_unimplemented(
    message = "`{Self}` names no action",
    note = "derive it: #[derive(Serialize, Deserialize, Action)] #[action(queue = \"...\", action = \"...\", output = ...)]",
    note = "a handler of an input without it names its own: #[frestq::task(queue = \"...\", action = \"...\")]"
)]
pub trait Action: Serialize {
    /// The queue of the receiving peer.
    const QUEUE: &'static str;
    /// The action within that queue.
    const ACTION: &'static str;
    /// What the handler returns.
    type Output: Serialize + DeserializeOwned + Send + 'static;

    /// Addresses this input to a peer, by its root queues URL.
    fn to(self, peer: impl AsRef<str>) -> SimpleTask<Self::Output>
    where
        Self: Sized,
    {
        SimpleTask::draft(peer, Self::QUEUE, Self::ACTION).data(self)
    }
}

/// Anything that can be sent, or added to a task: one task, or a whole tree, built by value.
///
/// Implemented by [`SimpleTask`], [`Sequential`], [`Parallel`], [`Synchronized`] and [`External`].
pub trait Compose {
    /// What its end brings.
    type Output;

    /// The tree as one value.
    fn into_node(self) -> Node;
}

/// A task with its subtasks, on its way to be stored.
#[derive(Debug)]
pub struct Node(pub(crate) Draft);

/// What every kind of task can carry.
macro_rules! carries {
    ($($type:ident $(<$param:ident>)?),+) => {
        $(impl$(<$param>)? $type$(<$param>)? {
            /// A name for people and for lookups. Stays on this peer.
            pub fn label(mut self, label: impl Into<String>) -> Self {
                self.draft.label = Some(label.into());
                self
            }

            /// Text that goes with the task and with all that is below it, to whatever peer: the id of a
            /// request, by which logs of several peers are searched. A subtask may have one of its own.
            /// Handlers read it with [`Task::trace`](crate::Task::trace).
            ///
            /// At most 512 bytes, without the character U+0000; anything else is an error of `send`.
            /// Peers that don't read our extensions never see it.
            ///
            /// ```
            /// use frestq::SimpleTask;
            ///
            /// let task = SimpleTask::new("http://127.0.0.1:5001/api/queues", "say_queue", "hello_world")
            ///     .trace("request 4711");
            /// ```
            pub fn trace(mut self, trace: impl Into<String>) -> Self {
                self.draft.trace = Some(trace.into());
                self
            }

            /// Sent only if no task of this key is open on this peer; else
            /// [`Frestq::send`](crate::Frestq::send) gives the open one. For what is sent, not for what is
            /// added to a task.
            pub fn unique(mut self, key: impl Into<String>) -> Self {
                self.draft.unique = Some(key.into());
                self
            }

            /// After this the task is worthless (`expiration_date` on the wire), and with it all that is
            /// below it.
            pub fn expires_at(mut self, at: Timestamp) -> Self {
                self.draft.expires = Some(When::At(at));
                self
            }

            /// Like [`expires_at`](Self::expires_at), counted from the moment of sending.
            pub fn expires_in(mut self, distance: Duration) -> Self {
                self.draft.expires = Some(When::In(distance));
                self
            }
        })+
    };
}

carries!(
    SimpleTask<T>,
    Sequential,
    Parallel,
    External,
    Synchronized<D>
);

/// Subtasks that follow one another: each starts when the one before it has finished.
///
/// The first one that fails ends the group in its error; those behind it never run. Without
/// subtasks it finishes at once. Its output is `null`.
///
/// ```
/// use frestq::{Sequential, SimpleTask};
///
/// let peer = "http://127.0.0.1:5001/api/queues";
/// let both = Sequential::new()
///     .add(SimpleTask::new(peer, "doors", "open"))
///     .add(SimpleTask::new(peer, "doors", "close"));
/// ```
#[must_use = "a task does nothing until it is sent"]
#[derive(Debug)]
pub struct Sequential {
    draft: Draft,
}

/// Subtasks that run at the same time.
///
/// The first one that fails ends the group in its error at once, and the others are called off: what
/// belongs together and can't succeed together should not go on costing. Where each result counts
/// by itself, [`wait_for_all`](Self::wait_for_all). Without subtasks it finishes at once. Its output
/// is `null`; those of its subtasks are read with
/// [`children`](crate::Relative::children).
///
/// ```
/// use frestq::{Parallel, SimpleTask};
///
/// let greet = |peer: &str| SimpleTask::new(peer, "say_queue", "hello_world");
/// let everybody = Parallel::new()
///     .add(greet("http://127.0.0.1:5001/api/queues"))
///     .add(greet("http://127.0.0.1:5002/api/queues"))
///     .wait_for_all();
/// ```
#[must_use = "a task does nothing until it is sent"]
#[derive(Debug)]
pub struct Parallel {
    draft: Draft,
}

/// Subtasks that start together: first each reserves a slot of its queue, and what else its
/// [`reserve`](crate::Handler::reserve) takes; once all have, all start.
///
/// `D` directs the group: it sees what was reserved, and may change the inputs before the start
/// ([`Director`](crate::Director)). `()` lets the tasks start as they are. The subtasks are single
/// tasks, for any peers; the first one that fails ends the group in its error. Without subtasks it
/// finishes at once. Its output is `null`.
///
/// Until all have reserved in the same round, the group tries again: a round lasts half of
/// `reservation_timeout`, and the next one begins after a random wait that doubles. To wait
/// no longer than some time, [`expires_in`](Self::expires_in).
///
/// ```
/// use frestq::{SimpleTask, Synchronized};
///
/// let play = |peer: &str| SimpleTask::new(peer, "orchestra", "play");
/// let concert = Synchronized::<()>::new()
///     .add(play("http://127.0.0.1:5001/api/queues"))
///     .add(play("http://127.0.0.1:5002/api/queues"));
/// ```
#[must_use = "a task does nothing until it is sent"]
#[derive(Debug)]
pub struct Synchronized<D = ()> {
    draft: Draft,
    director: PhantomData<fn() -> D>,
}

impl<D: NamedDirector> Synchronized<D> {
    /// A group without subtasks yet.
    pub fn new() -> Self {
        Self {
            draft: Draft::new(Target::Synchronized { director: D::NAME }),
            director: PhantomData,
        }
    }

    /// Adds a subtask.
    #[allow(clippy::should_implement_trait, reason = "it is no arithmetic")]
    pub fn add<T>(mut self, child: SimpleTask<T>) -> Self {
        self.draft.children.push(child.draft);
        self
    }
}

impl<D: NamedDirector> Default for Synchronized<D> {
    fn default() -> Self {
        Self::new()
    }
}

impl<D> Compose for Synchronized<D> {
    type Output = serde_json::Value;

    fn into_node(self) -> Node {
        Node(self.draft)
    }
}

/// A task that waits for a person: it ends with [`Frestq::external`](crate::Frestq::external) or
/// with `--finish`.
///
/// ```
/// use std::time::Duration;
///
/// use frestq::External;
///
/// let approval = External::new()
///     .label("approve_election")
///     .data("the results are in")
///     .expires_in(Duration::from_secs(7 * 24 * 3600));
/// ```
#[must_use = "a task does nothing until it is sent"]
#[derive(Debug)]
pub struct External {
    draft: Draft,
}

macro_rules! groups {
    ($($type:ident = $target:expr),+ $(,)?) => {
        $(impl $type {
            /// A group without subtasks yet.
            pub fn new() -> Self {
                Self { draft: Draft::new($target) }
            }

            /// Adds a subtask, or a group of them.
            #[allow(clippy::should_implement_trait, reason = "it is no arithmetic")]
            pub fn add(mut self, child: impl Compose) -> Self {
                self.draft.children.push(child.into_node().0);
                self
            }
        }

        impl Default for $type {
            fn default() -> Self {
                Self::new()
            }
        })+
    };
}

groups!(
    Sequential = Target::Sequential,
    Parallel = Target::Parallel {
        waits_for_all: false
    }
);

impl Parallel {
    /// Lets all subtasks end; if any failed, the group ends in error after the last one.
    ///
    /// Its [`TaskError`](crate::TaskError) has the code `children failed`, and as its data a list of what
    /// failed, in the order of the subtasks: the `id`, `queue`, `action` and `error` of each, as far as they
    /// fit into 64 KiB and up to a hundred.
    pub fn wait_for_all(mut self) -> Self {
        self.draft.target = Target::Parallel {
            waits_for_all: true,
        };
        self
    }
}

impl External {
    /// A task that waits.
    pub fn new() -> Self {
        Self {
            draft: Draft::new(Target::External),
        }
    }

    /// What the person needs to know in order to decide.
    pub fn data(mut self, data: impl Serialize) -> Self {
        self.draft.data = to_json(&data).map_err(Error::from);
        self
    }
}

impl Default for External {
    fn default() -> Self {
        Self::new()
    }
}

macro_rules! untyped {
    ($($type:ident),+) => {
        $(impl Compose for $type {
            type Output = serde_json::Value;

            fn into_node(self) -> Node {
                Node(self.draft)
            }
        })+
    };
}

untyped!(Sequential, Parallel, External);

impl<T> Compose for SimpleTask<T> {
    type Output = T;

    fn into_node(self) -> Node {
        Node(self.draft)
    }
}

/// One task for one peer, built by value and handed to [`Frestq::send`](crate::Frestq::send).
///
/// `T` is the type of its output: any JSON unless an [`Action`] says more.
///
/// ```
/// use frestq::SimpleTask;
/// use serde_json::json;
///
/// let task = SimpleTask::new("http://127.0.0.1:5001/api/queues", "say_queue", "hello_world")
///     .data(json!({ "username": "ada" }))
///     .label("greeting");
/// ```
///
/// A wrong address or a payload that is no JSON is reported by `send`, so that building stays fluent.
#[must_use = "a task does nothing until it is sent"]
#[derive(Debug)]
pub struct SimpleTask<T = serde_json::Value> {
    draft: Draft,
    output: PhantomData<fn() -> T>,
}

impl SimpleTask {
    /// A task for `action` of `queue` on the peer with the given root queues URL, with any JSON as its
    /// output. An [`Action`] gives a typed one.
    pub fn new(peer: impl AsRef<str>, queue: impl Into<String>, action: impl Into<String>) -> Self {
        Self::draft(peer, queue, action)
    }
}

impl<T> SimpleTask<T> {
    fn draft(peer: impl AsRef<str>, queue: impl Into<String>, action: impl Into<String>) -> Self {
        Self {
            draft: Draft::new(Target::Action {
                peer: peer.as_ref().parse().map_err(Error::from),
                queue: queue.into(),
                action: action.into(),
            }),
            output: PhantomData,
        }
    }

    /// The input of the task: anything that serializes.
    pub fn data(mut self, data: impl Serialize) -> Self {
        self.draft.data = to_json(&data).map_err(Error::from);
        self
    }

    /// A note for people that travels with the task; at most 1,024 characters.
    pub fn info(mut self, info: impl Into<String>) -> Self {
        self.draft.info = Some(info.into());
        self
    }

    /// When the receiver should report on the task unasked (`pingback_date` on the wire).
    pub fn pingback_at(mut self, at: Timestamp) -> Self {
        self.draft.pingback = Some(When::At(at));
        self
    }

    /// Like [`pingback_at`](Self::pingback_at), counted from the moment of sending.
    pub fn pingback_in(mut self, distance: Duration) -> Self {
        self.draft.pingback = Some(When::In(distance));
        self
    }

    /// Narrows the receiver to one certificate: the text of a PEM file, or `sha256:` and the fingerprint in
    /// hexadecimal. Messages about this task go only to a server that shows it, and only what comes by a
    /// connection that shows it counts for the task. Until such a server is there the task waits, as for
    /// one that is down.
    ///
    /// ```
    /// use frestq::SimpleTask;
    ///
    /// let task = SimpleTask::new("https://auth2.example.org:5000/api/queues", "mixnet", "share_key")
    ///     .pin("sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08");
    /// ```
    ///
    /// The receiver has to be a registered peer, and the certificate one by which it is known; both are
    /// checked by `send`.
    pub fn pin(mut self, certificate: impl Into<String>) -> Self {
        self.draft.pin = Some(certificate.into());
        self
    }

    /// Of the tasks that wait for a slot of their queue on this peer, one with a higher priority goes
    /// first; 0 by default, equals in their order. What is sent to another peer waits there without
    /// it: the protocol knows no priorities.
    pub fn priority(mut self, priority: i32) -> Self {
        self.draft.priority = priority;
        self
    }

    /// Sent, or started if it is for this peer itself, not earlier than this long after `send`.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.draft.delay = Some(delay);
        self
    }
}
