//! The documentation of the attributes and derives of `frestq-macros`. It is here so that its
//! examples compile.

/// Makes an async function, or an implementation of [`Handler`](crate::Handler), the handler of an
/// action.
///
/// ```
/// use frestq::prelude::*;
///
/// #[derive(Deserialize)]
/// struct Hello {
///     username: String,
/// }
///
/// #[frestq::task(queue = "say_queue", action = "hello_world")]
/// async fn hello_world(input: Hello) -> anyhow::Result<String> {
///     Ok(format!("hello {}!", input.username))
/// }
/// ```
///
/// The function is registered by the attribute and stays an ordinary function. The linker drops
/// handlers of a crate that nothing refers to: write `use my_handlers as _;` in the binary.
///
/// # Arguments of the function
///
/// The first argument may be the task's input: any type that owns its data and implements
/// [`serde::Deserialize`]. An input of another shape ends the task with the error `invalid
/// input`, which names the field. The other arguments are extractors, in any order:
/// [`Task`](crate::Task), axum's `State<T>`, and your own by [`FromTask`](crate::FromTask). A
/// first argument that is an extractor is extracted, even if it could be deserialized.
///
/// # Return value
///
/// It returns a `Result`, by any alias. The value, which implements [`serde::Serialize`], is the
/// task's output; an error ends the task. A [`TaskError`](crate::TaskError) is sent as it is, any
/// other error as its text.
///
/// # On an implementation of `Handler`
///
/// A handler that also decides about errors, or reserves, is a type that implements
/// [`Handler`](crate::Handler) and [`Default`]:
///
/// ```
/// use frestq::prelude::*;
///
/// #[derive(Default)]
/// struct Goodbye;
///
/// #[frestq::task(queue = "say_queue", action = "goodbye")]
/// impl Handler for Goodbye {
///     type Input = String;
///     type Output = String;
///
///     async fn execute(&self, _task: &Task, name: String) -> anyhow::Result<String> {
///         Ok(format!("goodbye {name}!"))
///     }
///
///     async fn handle_error(&self, _task: &Task, _error: &TaskError) -> Recovery<String> {
///         Recovery::Continue("goodbye all!".to_owned())
///     }
/// }
/// ```
///
/// # Arguments of the attribute
///
/// | argument | meaning |
/// |---|---|
/// | `queue = "..."`, `action = "..."` | the action that is served. Both or neither: without them the input's [`Action`](trait@crate::Action) names it, and the output must be the one declared there |
/// | `local` | only this peer itself may send such tasks |
/// | `retries = 3` | how often a run that returned `Err` is retried |
/// | `max_attempts = 5` | an interrupted run, for example by a crash, is repeated up to this many runs in a row |
/// | `at_most_once` | an interrupted run is never repeated; excludes `retries` and `max_attempts` |
/// | `timeout = "30s"` | the time limit of a run, in `ms`, `s`, `m` or `h` |
/// | `crate = other` | the path of frestq, if `Cargo.toml` renames it |
///
/// ```
/// # use frestq::prelude::*;
/// #[derive(Serialize, Deserialize, Action)]
/// #[action(queue = "election", action = "tally", output = u64)]
/// struct Tally {
///     votes: Vec<u64>,
/// }
///
/// #[frestq::task(timeout = "5m", retries = 2)]
/// async fn tally(Tally { votes }: Tally, task: Task) -> Result<u64, TaskError> {
///     if votes.is_empty() {
///         return Err(TaskError::new("no_votes", format!("task {} has no votes", task.id())));
///     }
///     Ok(votes.iter().sum())
/// }
/// ```
#[cfg(feature = "server")]
pub use frestq_macros::task;

/// Registers an implementation of [`Director`](trait@crate::Director) for the synchronized groups
/// that name its type.
///
/// | argument | meaning |
/// |---|---|
/// | `name = "..."` | its name in the database and the log; required, unique on its peer |
/// | `crate = other` | the path of frestq, if `Cargo.toml` renames it |
///
/// ```
/// use frestq::prelude::*;
///
/// #[derive(Default)]
/// struct Conductor;
///
/// #[frestq::director(name = "conductor")]
/// impl Director for Conductor {}
/// ```
#[cfg(feature = "server")]
pub use frestq_macros::director;

/// Makes an async function the handler of a raw message of the protocol, which is no task.
///
/// Nothing is reported back to the sender. The first argument is the [`Message`](crate::Message);
/// extractors may follow, as in [`#[frestq::task]`](macro@crate::task). `queue` and `action` are
/// required; `crate` is optional, as in `#[frestq::task]`.
///
/// ```
/// use frestq::prelude::*;
///
/// #[frestq::message(queue = "audit", action = "note")]
/// async fn note(message: Message) -> anyhow::Result<()> {
///     println!("{} says {}", message.sender, message.data);
///     Ok(())
/// }
/// ```
#[cfg(feature = "server")]
pub use frestq_macros::message;

/// Implements [`Action`](trait@crate::Action) for the type of the action's input.
///
/// | argument | meaning |
/// |---|---|
/// | `queue = "..."`, `action = "..."` | the queue and the action; required |
/// | `output = Type` | the output of its handler; by default `serde_json::Value`, any JSON |
/// | `crate = other` | the path of frestq, if `Cargo.toml` renames it |
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
/// assert_eq!(Hello::QUEUE, "say_queue");
/// ```
pub use frestq_macros::Action;
