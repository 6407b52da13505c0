//! Items that generated code refers to. They are not part of the public API: they change with the
//! macros, which are pinned to this exact version.
//!
//! Expansions stay short: they call these functions, each with a type that the user wrote, so
//! that an unmet bound is reported at that type.

use std::{future::Future, marker::PhantomData, time::Duration};

use serde::de::DeserializeOwned;

pub use std::sync::LazyLock;

pub use inventory;
pub use serde::Serialize;
pub use serde_json::Value;

use super::{
    compose::Action,
    context::Task,
    director::Group,
    failure::task_error,
    handler::{FromTask, IntoOutcome, Recovery, Requirements},
};
pub use super::{
    director::Director,
    handler::{Handler, HandlerError, TaskOutput},
    named_director::NamedDirector,
    registry::{
        Direct, DirectFuture, HandleError, HandleErrorFuture, HandlerFuture, Registration, Require,
        Reserve, Run,
    },
};
pub use crate::model::{
    ActionOptions,
    catalog::{Address, HandlerKind},
};
use crate::model::{
    Json,
    error::{Error, TaskError},
    raw_message::Message,
    to_json,
};

/// The first argument of a task's handler, which is an extractor or the input.
///
/// `Argument::<T>::take` is the inherent function below if `T` is an extractor, since inherent
/// functions take precedence. Otherwise it is that of [`OtherwiseInput`]. So the macro needs no
/// knowledge of the type.
pub struct Argument<T>(PhantomData<fn() -> T>);

impl<T: FromTask> Argument<T> {
    /// Extracts it.
    pub fn take(task: &Task) -> Result<T, TaskError> {
        extract(task)
    }

    /// Declares what it needs at start.
    pub fn require(requirements: &mut Requirements<'_>) {
        T::require(requirements);
    }
}

/// The functions of an [`Argument`] that is no extractor.
pub trait OtherwiseInput<T> {
    /// Reads it from the input.
    fn take(task: &Task) -> Result<T, TaskError>
    where
        T: Input,
    {
        input(task)
    }

    /// An input needs nothing at start. There is no bound here: `take` reports a type that is
    /// neither.
    fn require(_requirements: &mut Requirements<'_>) {}
}

impl<T> OtherwiseInput<T> for Argument<T> {}

/// A type that a handler can take as its input.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be the first argument of a handler: it is neither an input nor an extractor",
    label = "neither `serde::Deserialize` nor `frestq::FromTask`",
    note = "an input owns its data and can be read from JSON: #[derive(serde::Deserialize)]",
    note = "an extractor is `Task`, `State<T>` of a `T: Clone + Send + Sync + 'static`, or a type that implements `frestq::FromTask`"
)]
pub trait Input: DeserializeOwned {}

#[diagnostic::do_not_recommend]
impl<T: DeserializeOwned> Input for T {}

/// Reads the input.
fn input<T: DeserializeOwned>(task: &Task) -> Result<T, TaskError> {
    task.input().map_err(|error| match error {
        // Only a failure reads the input again, with a record of the position.
        Error::Json(error) => task.input::<Json>().map_or_else(
            |_| invalid_input(&error, None),
            |json| invalid_input(&error, path_of_fault::<T>(&json)),
        ),
        error => task_error(error.into()),
    })
}

/// The path of the field that can't be read.
fn path_of_fault<T: DeserializeOwned>(json: &Json) -> Option<String> {
    let reader = &mut serde_json::Deserializer::from_str(json.get());
    let error = serde_path_to_error::deserialize::<_, T>(reader).err()?;
    Some(error.path().to_string()).filter(|path| path != ".")
}

fn invalid_input(problem: &dyn std::fmt::Display, path: Option<String>) -> TaskError {
    let message = match path {
        Some(path) => format!("{path}: {problem}"),
        None => problem.to_string(),
    };
    TaskError::new(TaskError::INVALID_INPUT, message)
}

/// Takes an argument as an extractor.
pub fn extract<T: FromTask>(task: &Task) -> Result<T, TaskError> {
    T::from_task(task).map_err(|error| task_error(error.into()))
}

/// Declares what an extractor needs at start.
pub fn require<T: FromTask>(requirements: &mut Requirements<'_>) {
    T::require(requirements);
}

/// The first argument of a message's handler.
#[diagnostic::on_unimplemented(
    message = "a message handler takes `frestq::Message` first, not `{Self}`",
    label = "not `frestq::Message`",
    note = "extractors follow the message; for an input of your own type use #[frestq::task]"
)]
pub trait IsMessage: DeserializeOwned {}

impl IsMessage for Message {}

/// Takes the message.
pub fn message<T: IsMessage>(task: &Task) -> Result<T, TaskError> {
    input(task)
}

/// Converts the result of a handler into JSON or a task error.
pub fn outcome<R: IntoOutcome>(returned: R) -> Result<Json, TaskError> {
    let output = returned.into_outcome().map_err(task_error)?;
    written(&output)
}

/// Serializes an output.
fn written<T: Serialize>(output: &T) -> Result<Json, TaskError> {
    to_json(output).map_err(|error| {
        TaskError::new(
            TaskError::FAILED,
            format!("the output can't be written as JSON: {error}"),
        )
    })
}

/// Boxes the future of a run, which may run on any thread. Its name is part of the compiler error
/// if the future is not `Send`.
pub fn future_of_a_handler_must_be_send<F>(future: F) -> HandlerFuture
where
    F: Future<Output = Result<Json, TaskError>> + Send + 'static,
{
    Box::pin(future)
}

/// Creates the value of a handler type.
pub fn made<H: Made>() -> H {
    H::default()
}

/// A type of which frestq can create a value.
#[diagnostic::on_unimplemented(
    message = "frestq can't create the value of `{Self}` that runs its tasks",
    label = "doesn't implement `Default`",
    note = "derive it: #[derive(Default)]"
)]
pub trait Made: Default {}

#[diagnostic::do_not_recommend]
impl<T: Default> Made for T {}

/// Calls [`Handler::execute`].
pub fn execute<H: Handler>(handler: &'static H, task: Task) -> HandlerFuture {
    Box::pin(async move {
        let input = input(&task)?;
        outcome(handler.execute(&task, input).await)
    })
}

/// Calls [`Handler::reserve`].
pub fn reserve<H: Handler>(handler: &'static H, task: Task) -> HandlerFuture {
    Box::pin(async move { outcome(handler.reserve(&task).await) })
}

/// Calls [`Handler::cancel_reservation`].
pub fn cancel_reservation<H: Handler>(handler: &'static H, task: Task) -> HandlerFuture {
    Box::pin(async move {
        let reservation = task
            .reservation()
            .map_err(|error| task_error(error.into()))?;
        outcome(handler.cancel_reservation(&task, reservation).await)
    })
}

/// Calls the methods of a [`Director`]: those before the start, or those after a failed round.
pub fn direct<D: Director>(
    director: &'static D,
    mut group: Group,
    after_round: bool,
) -> DirectFuture {
    Box::pin(async move {
        let reserved: Vec<_> = (group.subtasks().iter())
            .filter(|subtask| subtask.reserved)
            .cloned()
            .collect();
        for subtask in &reserved {
            if !after_round {
                let result = director.new_reservation(&group, subtask).await;
                result.map_err(task_error)?;
            } else if let Err(error) = director.cancelled_reservation(&group, subtask).await {
                tracing::warn!(
                    target: "frestq::task",
                    "task {}: cancelled_reservation of the director failed: {error:#}",
                    subtask.id(),
                );
            }
        }
        if after_round {
            return Ok(Vec::new());
        }
        let result = director.pre_execute(&mut group).await;
        result.map_err(task_error)?;
        Ok(group.into_inputs())
    })
}

/// Calls [`Handler::handle_error`].
pub fn handle_error<H: Handler>(
    handler: &'static H,
    task: Task,
    error: TaskError,
) -> HandleErrorFuture {
    Box::pin(async move { recovered(handler.handle_error(&task, &error).await) })
}

/// Converts a recovery into the output to continue with, or `None`.
fn recovered<T: Serialize>(recovery: Recovery<T>) -> Result<Option<Json>, TaskError> {
    match recovery {
        Recovery::Propagate => Ok(None),
        Recovery::Continue(output) => written(&output).map(Some),
    }
}

/// The address of `A`, if the handler returns the declared output.
pub const fn address_of<A, R>() -> Address
where
    A: Action,
    R: IntoOutcome,
    R::Output: DeclaredOutput<A::Output, A>,
{
    address_with_output::<A, R::Output>()
}

/// The address of `A`, if `T` is the declared output.
pub const fn address_with_output<A, T>() -> Address
where
    A: Action,
    T: DeclaredOutput<A::Output, A>,
{
    Address {
        queue: A::QUEUE,
        action: A::ACTION,
    }
}

/// A type that an action declares as its output.
#[diagnostic::on_unimplemented(
    message = "the output of this handler is `{Self}`, but `{A}` declares `output = {Declared}`",
    label = "expected a `Result` of `{Declared}`",
    note = "return what #[action(output = ...)] of the input declares, or change it there for both peers"
)]
pub trait DeclaredOutput<Declared, A> {}

impl<T, A> DeclaredOutput<T, A> for T {}

/// The time limit of a run.
pub const fn timeout(milliseconds: u64) -> Option<Duration> {
    Some(Duration::from_millis(milliseconds))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    struct Hello {
        #[allow(dead_code, reason = "only its reading is of interest")]
        users: Vec<User>,
    }

    #[derive(Debug, Deserialize)]
    struct User {
        #[allow(dead_code, reason = "only its reading is of interest")]
        name: String,
    }

    fn refusal<T: DeserializeOwned + std::fmt::Debug>(text: &str) -> TaskError {
        let json: Json = serde_json::from_str(text).unwrap();
        let problem = serde_json::from_str::<T>(text).unwrap_err();
        invalid_input(&problem, path_of_fault::<T>(&json))
    }

    #[test]
    fn an_invalid_input_names_the_field() {
        let error = refusal::<Hello>(r#"{"users": [{"name": "ada"}, {"name": 3}]}"#);
        assert_eq!(error.code(), "invalid input");
        assert!(
            error
                .message()
                .starts_with("users[1].name: invalid type: integer `3`, expected a string"),
            "{error}"
        );
    }

    #[test]
    fn an_input_that_is_invalid_as_a_whole_names_no_field() {
        let error = refusal::<Hello>("null");
        assert!(error.message().starts_with("invalid type: null"), "{error}");
        let error = refusal::<Hello>("{}");
        assert!(
            error.message().starts_with("missing field `users`"),
            "{error}"
        );
    }

    #[test]
    fn a_message_survives_its_own_json_with_what_it_carries_untouched() {
        let text = r#"{"id":"m","queue":"q","action":"a","sender":"http://a/api/queues","task_id":"t","data":{"b": 1.50, "a":null},"info":null,"pingback_date":null,"expiration_date":null}"#;
        let message: Message = serde_json::from_str(text).unwrap();
        assert_eq!(message.data.get(), r#"{"b": 1.50, "a":null}"#);
        assert_eq!(serde_json::to_string(&message).unwrap(), text);
        let error = refusal::<Message>(r#"{"id":"m","queue":"q","action":3}"#);
        assert!(error.message().starts_with("action: "), "{error}");
    }

    #[test]
    fn an_output_becomes_json_and_an_error_a_task_error() {
        assert_eq!(outcome(anyhow::Ok(vec![1, 2])).unwrap().get(), "[1,2]");
        let own = TaskError::new("no_votes", "the ballot box is empty");
        assert_eq!(outcome(Err::<(), _>(own.clone())).unwrap_err(), own);
        let chained = anyhow::anyhow!("disk full").context("can't count");
        let error = outcome(Err::<(), _>(chained)).unwrap_err();
        assert_eq!(
            (error.code(), error.message()),
            ("failed", "can't count: disk full")
        );
    }

    #[test]
    fn a_recovery_is_the_output_to_continue_with_or_none() {
        assert!(recovered(Recovery::<u8>::Propagate).is_ok_and(|output| output.is_none()));
        let output = recovered(Recovery::Continue(vec![1])).unwrap();
        assert_eq!(output.unwrap().get(), "[1]");
    }

    #[test]
    fn an_output_that_json_cannot_hold_is_an_error() {
        let keyed_by_lists = std::collections::BTreeMap::from([(vec![1], 2)]);
        let error = outcome(anyhow::Ok(keyed_by_lists)).unwrap_err();
        assert!(error.message().starts_with("the output can't be written"));
    }
}
