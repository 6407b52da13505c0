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

/// The contract between two peers about one action: its queue, its name, its input and its
/// output.
///
/// It is derived on the type of the input:
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
/// Both peers can share the type in one crate. A handler of this input then needs no arguments in
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

    /// Makes a task for a peer from this input. `peer` is its root queues URL.
    fn to(self, peer: impl AsRef<str>) -> SimpleTask<Self::Output>
    where
        Self: Sized,
    {
        SimpleTask::draft(peer, Self::QUEUE, Self::ACTION).data(self)
    }
}

/// A task or a whole tree, built as a value, that can be sent or added to a task.
///
/// Implemented by [`SimpleTask`], [`Sequential`], [`Parallel`], [`Synchronized`] and [`External`].
pub trait Compose {
    /// The output of the task.
    type Output;

    /// Converts it into a tree of tasks.
    fn into_node(self) -> Node;
}

/// A tree of tasks that is not stored yet.
#[derive(Debug)]
pub struct Node(pub(crate) Draft);

/// The options of every kind of task.
macro_rules! common_options {
    ($($type:ident $(<$param:ident>)?),+) => {
        $(impl$(<$param>)? $type$(<$param>)? {
            /// Sets a label for people and for lookups. It stays on this peer.
            pub fn label(mut self, label: impl Into<String>) -> Self {
                self.draft.label = Some(label.into());
                self
            }

            /// Text that goes with the task and with all that is below it, to whatever peer: the
            /// id of a request, by which logs of several peers are searched. A subtask may have
            /// one of its own. Handlers read it with [`Task::trace`](crate::Task::trace).
            ///
            /// At most 512 bytes, without the character U+0000; anything else is an error of
            /// `send`. Peers that don't read our extensions never see it.
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

            /// Sends the task only if no task with this key is open on this peer. Otherwise
            /// [`Frestq::send`](crate::Frestq::send) returns the open task. It applies to tasks
            /// that are sent, not to those added to a task.
            pub fn unique(mut self, key: impl Into<String>) -> Self {
                self.draft.unique = Some(key.into());
                self
            }

            /// Sets when the task expires (`expiration_date` on the wire). An expired task ends,
            /// and its subtree with it.
            pub fn expires_at(mut self, at: Timestamp) -> Self {
                self.draft.expires = Some(When::At(at));
                self
            }

            /// Like [`expires_at`](Self::expires_at), but as a duration from the time of sending.
            pub fn expires_in(mut self, distance: Duration) -> Self {
                self.draft.expires = Some(When::In(distance));
                self
            }
        })+
    };
}

common_options!(
    SimpleTask<T>,
    Sequential,
    Parallel,
    External,
    Synchronized<D>
);

/// A group whose subtasks run one after the other.
///
/// Each subtask starts when the one before it has finished. The first failure ends the group with
/// that error, and the remaining subtasks never run. A group without subtasks finishes at once.
/// The output is `null`.
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

/// A group whose subtasks run at the same time.
///
/// The first failure ends the group with that error at once, and cancels the other subtasks. Use
/// [`wait_for_all`](Self::wait_for_all) if each result counts by itself. A group without subtasks
/// finishes at once. The output is `null`; read the outputs of the subtasks with
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

/// A group whose subtasks start together, once all of them have reserved what they need.
///
/// Each subtask first reserves a slot of its queue, and what its
/// [`reserve`](crate::Handler::reserve) takes. When all have reserved, all start.
///
/// `D` is the [`Director`](crate::Director) of the group: it sees the reservations and may change
/// the inputs before the start. With `()` the inputs stay as they are. The subtasks are single
/// tasks, for any peers. The first failure ends the group with that error. A group without
/// subtasks finishes at once. The output is `null`.
///
/// If not all subtasks reserve in one round, the group tries again. A round lasts half of
/// `reservation_timeout`; the next one begins after a random wait, whose limit doubles each time.
/// [`expires_in`](Self::expires_in) limits the total time.
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

/// A task that waits for a person's decision.
///
/// It ends by [`Frestq::external`](crate::Frestq::external) or by the flags `--finish` and
/// `--deny`.
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
    /// Lets all subtasks end before the group does. If any failed, the group then ends in error.
    ///
    /// The [`TaskError`](crate::TaskError) of the group has the code `children failed`. Its data
    /// is a list of the failed subtasks, in order, each with `id`, `queue`, `action` and `error`:
    /// at most 100 entries and 64 KiB.
    pub fn wait_for_all(mut self) -> Self {
        self.draft.target = Target::Parallel {
            waits_for_all: true,
        };
        self
    }
}

impl External {
    /// An external task without data.
    pub fn new() -> Self {
        Self {
            draft: Draft::new(Target::External),
        }
    }

    /// Sets the data that the person needs for the decision.
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

/// A single task for one peer, built as a value and passed to
/// [`Frestq::send`](crate::Frestq::send).
///
/// `T` is the type of the output: any JSON unless the task was built from an [`Action`].
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
/// `send` reports an invalid address or a payload that can't be serialized, so the builder
/// methods return no `Result`.
#[must_use = "a task does nothing until it is sent"]
#[derive(Debug)]
pub struct SimpleTask<T = serde_json::Value> {
    draft: Draft,
    output: PhantomData<fn() -> T>,
}

impl SimpleTask {
    /// Makes a task for `action` of `queue` on the peer with this root queues URL.
    ///
    /// The output can be any JSON; an [`Action`] gives it a type.
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

    /// Sets the input of the task.
    pub fn data(mut self, data: impl Serialize) -> Self {
        self.draft.data = to_json(&data).map_err(Error::from);
        self
    }

    /// Sets a note for people that travels with the task, of at most 1,024 characters.
    pub fn info(mut self, info: impl Into<String>) -> Self {
        self.draft.info = Some(info.into());
        self
    }

    /// Sets when the receiver reports on the task unasked (`pingback_date` on the wire).
    pub fn pingback_at(mut self, at: Timestamp) -> Self {
        self.draft.pingback = Some(When::At(at));
        self
    }

    /// Like [`pingback_at`](Self::pingback_at), but as a duration from the time of sending.
    pub fn pingback_in(mut self, distance: Duration) -> Self {
        self.draft.pingback = Some(When::In(distance));
        self
    }

    /// Restricts the receiver to one certificate: the text of a PEM file, or `sha256:` and the
    /// fingerprint in hexadecimal.
    ///
    /// Messages about this task go only to a server that shows this certificate, and messages
    /// about it are accepted only from connections that show it. Until such a server is
    /// reachable, the task waits as for a peer that is down.
    ///
    /// ```
    /// use frestq::SimpleTask;
    ///
    /// let task = SimpleTask::new("https://auth2.example.org:5000/api/queues", "mixnet", "share_key")
    ///     .pin("sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08");
    /// ```
    ///
    /// The receiver must be a registered peer, and the certificate one of those it is registered
    /// with. `send` checks both.
    pub fn pin(mut self, certificate: impl Into<String>) -> Self {
        self.draft.pin = Some(certificate.into());
        self
    }

    /// Sets the priority among tasks that wait for a slot of their queue on this peer.
    ///
    /// A higher priority goes first; tasks of equal priority keep their order. The default is 0.
    /// The protocol has no priorities, so a task sent to another peer waits there without one.
    pub fn priority(mut self, priority: i32) -> Self {
        self.draft.priority = priority;
        self
    }

    /// Delays the task: it is sent, or started if it is local, no earlier than this long after
    /// `send`.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.draft.delay = Some(delay);
        self
    }
}
