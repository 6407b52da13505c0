//! The documentation of the attributes and derives that `frestq-macros` makes: it stands
//! here so that its examples compile.

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
/// It is registered where it stands and stays an ordinary function. The handlers of a
/// crate that nothing names are not linked in: write `use my_handlers as _;` in the binary.
///
/// # Arguments of the function
///
/// The first may be the task's input: any type that owns its data and implements
/// [`serde::Deserialize`]. An input of another shape ends the task in error `invalid input`, which
/// names the field. After it, or without it, come extractors in any order:
/// [`Task`](crate::Task), axum's `State<T>`, and your own through [`FromTask`](crate::FromTask). A
/// first argument that is an extractor is taken as one even if it could be deserialized.
///
/// # What it returns
///
/// A `Result`, by any alias: its value, which implements [`serde::Serialize`], is the task's output,
/// and its error ends the task. A [`TaskError`](crate::TaskError) travels as it is, any other error
/// as its text.
///
/// # On an implementation of `Handler`
///
/// A handler with more than one moment, such as a say in what becomes of an error, is a type that
/// implements [`Handler`](crate::Handler) and [`Default`]:
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
/// | `queue = "..."`, `action = "..."` | what is served. Both or neither: without them the input's [`Action`](trait@crate::Action) says it, and the output must be the one declared there |
/// | `local` | only this peer's own code may ask for it |
/// | `retries = 3` | an `Err` is tried again so often before it is final |
/// | `max_attempts = 5` | a run that is cut off, by a crash for example, is repeated, up to so many runs in a row |
/// | `at_most_once` | a run that is cut off is never repeated; excludes the two above |
/// | `timeout = "30s"` | how long a run may take, in `ms`, `s`, `m` or `h` |
/// | `crate = other` | the path of frestq, where `Cargo.toml` gives it another name |
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

/// Makes an implementation of [`Director`](trait@crate::Director) the director of the synchronized
/// groups that name its type.
///
/// | argument | meaning |
/// |---|---|
/// | `name = "..."` | what it is called in the database and the log; required, unique on its peer |
/// | `crate = other` | the path of frestq, where `Cargo.toml` gives it another name |
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

/// Makes an async function the handler of a raw message of the protocol.
///
/// For what is no task: nothing is reported back to the sender. The first argument is the
/// [`Message`](crate::Message); extractors may follow, as in [`#[frestq::task]`](macro@crate::task).
/// `queue` and `action` are both required, and `crate` is known as there.
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

/// Implements [`Action`](trait@crate::Action): the type is the input of that action.
///
/// | argument | meaning |
/// |---|---|
/// | `queue = "..."`, `action = "..."` | where such a task goes; required |
/// | `output = Type` | what its handler returns; any JSON, a `serde_json::Value`, if left out |
/// | `crate = other` | the path of frestq, where `Cargo.toml` gives it another name |
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
