//! What generated code names. No part of the public API: it changes with the macros, which are
//! pinned to this very version.
//!
//! Expansions stay short: they call these functions, each with a type that the user wrote, so that
//! an unmet bound is reported at that type.

use std::{future::Future, marker::PhantomData, time::Duration};

use serde::de::DeserializeOwned;

pub use core::primitive::str;
pub use inventory;
pub use serde::Serialize;
pub use serde_json::Value;

use crate::{
    compose::Action,
    context::Task,
    error::{Error, TaskError},
    handler::{FromTask, IntoOutcome, Requirements},
    message::Message,
    model::{Json, to_json},
};
pub use crate::{
    handler::{HandlerError, TaskOutput},
    model::ActionOptions,
    registry::{Address, HandlerFuture, HandlerKind, Registration, Run},
};

/// What `frestq::main!` calls.
pub fn main(configure: impl FnOnce(crate::App) -> crate::App) -> std::process::ExitCode {
    tracing_subscriber::fmt()
        .with_max_level(
            std::env::var("FRESTQ_LOG")
                .ok()
                .and_then(|l| l.parse().ok())
                .unwrap_or(tracing::Level::INFO),
        )
        .with_writer(std::io::stderr)
        .init();
    let mut app = configure(crate::App::new());
    if let Ok(d) = std::env::var("FRESTQ_DATABASE") {
        app.config.database = Some(d);
    }
    if let Ok(p) = std::env::var("FRESTQ_PORT") {
        app.config.port = p.parse().unwrap();
    }
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(async {
            let r = if std::env::args().any(|a| a == "--createdb") {
                crate::store::Store::open(&app.config.database(), crate::store::Purpose::Create)
                    .await
                    .map(|_| ())
            } else {
                app.serve().await
            };
            match r {
                Ok(()) => std::process::ExitCode::SUCCESS,
                Err(e) => {
                    eprintln!("error: {e}");
                    std::process::ExitCode::FAILURE
                }
            }
        })
}

/// The first argument of a task's handler, which is an extractor or the input.
///
/// `Argument::<T>::take` is the function below if `T` is an extractor, since inherent functions come
/// first, and that of [`OtherwiseInput`] if not. So the macro needs no guess at what a type is.
pub struct Argument<T>(PhantomData<fn() -> T>);

impl<T: FromTask> Argument<T> {
    /// Takes it as an extractor.
    pub fn take(task: &Task) -> Result<T, TaskError> {
        extract(task)
    }

    /// What it needs at start.
    pub fn require(requirements: &mut Requirements<'_>) {
        T::require(requirements);
    }
}

/// The other half of [`Argument`].
pub trait OtherwiseInput<T> {
    /// Takes it as the input.
    fn take(task: &Task) -> Result<T, TaskError>
    where
        T: Input,
    {
        input(task)
    }

    /// An input needs nothing at start. No bound here: `take` reports a type that is neither.
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
    task.input().map_err(|error| {
        // Only a failure pays for the path: reading once more with a record of where one is.
        let path = task.input::<Json>().ok().and_then(|json| {
            let reader = &mut serde_json::Deserializer::from_str(json.get());
            let error = serde_path_to_error::deserialize::<_, T>(reader).err()?;
            Some(error.path().to_string()).filter(|path| path != ".")
        });
        let problem = match error {
            Error::Json(error) => error.to_string(),
            error => error.to_string(),
        };
        TaskError::new(
            TaskError::INVALID_INPUT,
            match path {
                Some(path) => format!("{path}: {problem}"),
                None => problem,
            },
        )
    })
}

/// Takes an argument as an extractor.
pub fn extract<T: FromTask>(task: &Task) -> Result<T, TaskError> {
    T::from_task(task).map_err(|error| TaskError::from_handler(error.into()))
}

/// Says what an extractor needs at start.
pub fn require<T: FromTask>(requirements: &mut Requirements<'_>) {
    T::require(requirements);
}

/// The first argument of a message's handler.
#[diagnostic::on_unimplemented(
    message = "a message handler takes `frestq::Message` first, not `{Self}`",
    label = "not `frestq::Message`",
    note = "extractors follow the message; what takes an input of its own type is a #[frestq::task]"
)]
pub trait IsMessage: DeserializeOwned {}

impl IsMessage for Message {}

/// Takes the message.
pub fn message<T: IsMessage>(task: &Task) -> Result<T, TaskError> {
    input(task)
}

/// What a handler returned, as what travels.
pub fn outcome<R: IntoOutcome>(returned: R) -> Result<Json, TaskError> {
    let output = returned.into_outcome().map_err(TaskError::from_handler)?;
    to_json(&output).map_err(|error| {
        TaskError::new(
            TaskError::FAILED,
            format!("the output can't be written as JSON: {error}"),
        )
    })
}

/// The future of a run, for a worker on any thread. Its name is part of what rustc says if it is not
/// `Send`.
pub fn future_of_a_handler_must_be_send<F>(future: F) -> HandlerFuture
where
    F: Future<Output = Result<Json, TaskError>> + Send + 'static,
{
    Box::pin(future)
}

/// A type that says which action it is the input of.
#[diagnostic::on_unimplemented(
    message = "nothing says which action this handler serves: `{Self}` names none",
    label = "no `Action`",
    note = "name it in the attribute: #[frestq::task(queue = \"...\", action = \"...\")]",
    note = "or on the input: #[derive(Serialize, Deserialize, Action)] #[action(queue = \"...\", action = \"...\", output = ...)]"
)]
pub trait NamesAction: Action {}

#[diagnostic::do_not_recommend]
impl<T: Action> NamesAction for T {}

/// Where `A` goes, if the handler returns what it declares.
pub const fn address_of<A, R>() -> Address
where
    A: NamesAction,
    R: IntoOutcome,
    R::Output: DeclaredOutput<A::Output, A>,
{
    Address {
        queue: A::QUEUE,
        action: A::ACTION,
    }
}

/// The type that an action declares as its output.
#[diagnostic::on_unimplemented(
    message = "the output of this handler is `{Self}`, but `{A}` declares `output = {Declared}`",
    label = "expected a `Result` of `{Declared}`",
    note = "return what #[action(output = ...)] of the input declares, or change it there for both peers"
)]
pub trait DeclaredOutput<Declared, A> {}

impl<T, A> DeclaredOutput<T, A> for T {}

/// A time limit.
pub const fn timeout(milliseconds: u64) -> Option<Duration> {
    Some(Duration::from_millis(milliseconds))
}
