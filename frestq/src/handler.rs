//! The traits by which a function becomes a handler: its arguments, its result.

use std::{
    any::{Any, TypeId, type_name},
    collections::HashMap,
};

use axum::extract::State;
use serde::Serialize;

use crate::{
    context::Task,
    error::{Error, Result},
    peer::Frestq,
};

/// An argument of a handler that is taken from the running task, as axum's extractors are from a
/// request.
///
/// Implement it for your own types to share what many handlers need:
///
/// ```
/// use frestq::{FromTask, Task};
///
/// /// Who asked for the task.
/// struct Sender(String);
///
/// impl FromTask for Sender {
///     fn from_task(task: &Task) -> frestq::Result<Self> {
///         Ok(Sender(task.sender().to_string()))
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be an argument of a handler",
    label = "not an extractor",
    note = "the input comes first; all other arguments are extractors: `Task`, `State<T>` of a `T: Clone + Send + Sync + 'static`, or a type that implements `frestq::FromTask`"
)]
pub trait FromTask: Sized {
    /// Takes the value from the task.
    ///
    /// # Errors
    ///
    /// Whatever it returns ends the task in error.
    fn from_task(task: &Task) -> Result<Self>;

    /// Says what must be there for [`from_task`](Self::from_task) to work, checked once at start.
    fn require(_requirements: &mut Requirements) {}
}

impl FromTask for Task {
    fn from_task(task: &Task) -> Result<Self> {
        Ok(task.clone())
    }
}

#[diagnostic::do_not_recommend]
impl<T: Clone + Send + Sync + 'static> FromTask for State<T> {
    fn from_task(task: &Task) -> Result<Self> {
        if let Some(peer) = (task.peer() as &dyn Any).downcast_ref::<T>() {
            return Ok(State(peer.clone()));
        }
        let state = task.peer().state::<T>();
        state
            .map(State)
            .ok_or_else(|| Error::Invalid(format!("nobody provides State<{}>", type_name::<T>())))
    }

    fn require(requirements: &mut Requirements) {
        requirements.state::<T>();
    }
}

/// The values that `app.state(...)` provided, by type.
#[derive(Default)]
pub(crate) struct States(HashMap<TypeId, Box<dyn Any + Send + Sync>>);

impl States {
    pub(crate) fn insert<T: Clone + Send + Sync + 'static>(&mut self, value: T) {
        self.0.insert(TypeId::of::<T>(), Box::new(value));
    }

    pub(crate) fn get<T: Clone + 'static>(&self) -> Option<T> {
        self.0.get(&TypeId::of::<T>())?.downcast_ref::<T>().cloned()
    }
}

/// Collects what the arguments of a handler need, so that a fault shows at start and not at the
/// first task.
pub struct Requirements<'a> {
    states: &'a States,
    missing: Vec<&'static str>,
}

impl<'a> Requirements<'a> {
    pub(crate) fn new(states: &'a States) -> Self {
        Self {
            states,
            missing: Vec::new(),
        }
    }

    /// Needs `State<T>`.
    pub fn state<T: Send + Sync + 'static>(&mut self) {
        let provided = TypeId::of::<T>() == TypeId::of::<Frestq>()
            || self.states.0.contains_key(&TypeId::of::<T>());
        if !provided {
            self.missing.push(type_name::<T>());
        }
    }

    pub(crate) fn missing(self) -> Vec<&'static str> {
        self.missing
    }
}

/// What a handler may return: a `Result` of something that serializes.
///
/// A trait, so that aliases such as `anyhow::Result<T>` or your own work.
#[diagnostic::on_unimplemented(
    message = "a handler returns a `Result`, not `{Self}`",
    label = "not a `Result`",
    note = "return `anyhow::Result<T>` or `Result<T, E>`, where `T: serde::Serialize` is the task's output"
)]
pub trait IntoOutcome {
    /// The task's output.
    type Output: Serialize;

    /// The output, or why there is none.
    ///
    /// # Errors
    ///
    /// The handler's own.
    fn into_outcome(self) -> Result<Self::Output, anyhow::Error>;
}

impl<T: TaskOutput, E: HandlerError> IntoOutcome for Result<T, E> {
    type Output = T;

    fn into_outcome(self) -> Result<T, anyhow::Error> {
        self.map_err(Into::into)
    }
}

/// `Serialize`, for the sake of what rustc says where it is missing.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be the output of a handler: it can't be written as JSON",
    label = "its output `{Self}` doesn't implement `serde::Serialize`",
    note = "derive it: #[derive(serde::Serialize)]"
)]
pub trait TaskOutput: Serialize {}

#[diagnostic::do_not_recommend]
impl<T: Serialize> TaskOutput for T {}

/// `Into<anyhow::Error>`, for the sake of what rustc says where it is missing.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be the error of a handler",
    label = "its error `{Self}` doesn't convert into `anyhow::Error`",
    note = "return `anyhow::Result<T>`, a `frestq::TaskError`, or an error that implements `std::error::Error + Send + Sync + 'static`"
)]
pub trait HandlerError: Into<anyhow::Error> {}

#[diagnostic::do_not_recommend]
impl<E: Into<anyhow::Error>> HandlerError for E {}
