//! The traits of handlers: their arguments, their results, and [`Handler`] itself.

use std::{
    any::{Any, TypeId, type_name},
    future::{Future, ready},
};

use axum::extract::State;
use serde::{Serialize, de::DeserializeOwned};

use super::{context::Task, peer::Frestq, states::States};
use crate::model::error::{Error, Result, TaskError};

/// An argument of a handler that is extracted from the running task, as axum's extractors are
/// from a request.
///
/// Implement it for your own types to share code between handlers:
///
/// ```
/// use frestq::{FromTask, Task};
///
/// /// The peer that sent the task.
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
    /// Extracts the value from the task.
    ///
    /// # Errors
    ///
    /// An error ends the task in error.
    fn from_task(task: &Task) -> Result<Self>;

    /// Declares what [`from_task`](Self::from_task) needs. It is checked once, at start.
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
        state.map(State).ok_or_else(|| {
            Error::Invalid(format!(
                "the application provides no State<{}>",
                type_name::<T>()
            ))
        })
    }

    fn require(requirements: &mut Requirements) {
        requirements.state::<T>();
    }
}

/// Collects what the arguments of a handler need, so that a missing state is reported at start
/// and not at the first task.
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

    /// Declares that `State<T>` is needed.
    pub fn state<T: Send + Sync + 'static>(&mut self) {
        let provided =
            TypeId::of::<T>() == TypeId::of::<Frestq>() || self.states.has(TypeId::of::<T>());
        if !provided {
            self.missing.push(type_name::<T>());
        }
    }

    pub(crate) fn missing(self) -> Vec<&'static str> {
        self.missing
    }
}

/// The return type of a handler: a `Result` whose value serializes.
///
/// It is a trait so that aliases work, such as `anyhow::Result<T>` or your own.
#[diagnostic::on_unimplemented(
    message = "a handler returns a `Result`, not `{Self}`",
    label = "not a `Result`",
    note = "return `anyhow::Result<T>` or `Result<T, E>`, where `T: serde::Serialize` is the task's output"
)]
pub trait IntoOutcome {
    /// The task's output.
    type Output: Serialize;

    /// Converts it into the output or the error.
    ///
    /// # Errors
    ///
    /// The error that the handler has returned.
    fn into_outcome(self) -> Result<Self::Output, anyhow::Error>;
}

impl<T: TaskOutput, E: HandlerError> IntoOutcome for Result<T, E> {
    type Output = T;

    fn into_outcome(self) -> Result<T, anyhow::Error> {
        self.map_err(Into::into)
    }
}

/// `Serialize`, with a better compiler error where it is missing.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be the output of a handler: it can't be written as JSON",
    label = "its output `{Self}` doesn't implement `serde::Serialize`",
    note = "derive it: #[derive(serde::Serialize)]"
)]
pub trait TaskOutput: Serialize {}

#[diagnostic::do_not_recommend]
impl<T: Serialize> TaskOutput for T {}

/// `Into<anyhow::Error>`, with a better compiler error where it is missing.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be the error of a handler",
    label = "its error `{Self}` doesn't convert into `anyhow::Error`",
    note = "return `anyhow::Result<T>`, a `frestq::TaskError`, or an error that implements `std::error::Error + Send + Sync + 'static`"
)]
pub trait HandlerError: Into<anyhow::Error> {}

#[diagnostic::do_not_recommend]
impl<E: Into<anyhow::Error>> HandlerError for E {}

/// A handler of an action that does more than execute: it may decide about errors, and reserve.
///
/// It is registered by [`#[frestq::task]`](macro@crate::task) on the implementation. A handler
/// that needs only [`execute`](Self::execute) is shorter as an async function.
///
/// ```
/// use frestq::prelude::*;
///
/// #[derive(Default)]
/// struct Mixer;
///
/// #[frestq::task(queue = "mixnet", action = "mix", retries = 2)]
/// impl Handler for Mixer {
///     type Input = Vec<String>;
///     type Output = usize;
///
///     async fn execute(&self, _task: &Task, ballots: Vec<String>) -> anyhow::Result<usize> {
///         if ballots.is_empty() {
///             return Err(TaskError::new("no_ballots", "there is nothing to mix").into());
///         }
///         Ok(ballots.len())
///     }
///
///     async fn handle_error(&self, _task: &Task, error: &TaskError) -> Recovery<usize> {
///         match error.code() {
///             "no_ballots" => Recovery::Continue(0),
///             _ => Recovery::Propagate,
///         }
///     }
/// }
/// ```
///
/// The type implements [`Default`]: frestq creates one value of it when the first task arrives.
/// All tasks share that value for the life of the process, also concurrently, so mutable fields
/// need a lock or an atomic. Data that must outlive the process belongs in the database.
/// `task.peer().state::<T>()` returns the values of [`App::state`](crate::App::state).
#[diagnostic::on_unimplemented(
    message = "`{Self}` doesn't implement `frestq::Handler`",
    note = "`#[frestq::task]` goes on an implementation of `frestq::Handler`, not on one of another trait of that name"
)]
pub trait Handler: Send + Sync + 'static {
    /// The task's input. An input of another shape ends the task with the error `invalid input`,
    /// which names the field.
    type Input: DeserializeOwned + Send;

    /// The task's output.
    type Output: Serialize + Send;

    /// The value that [`reserve`](Self::reserve) returns. It may be left out: the attribute adds
    /// `()`.
    type Reservation: Serialize + DeserializeOwned + Send;

    /// Runs the task. Write it as an `async fn`.
    ///
    /// # Errors
    ///
    /// Any error type works with `?`. After the `retries` of the attribute the error goes to
    /// [`handle_error`](Self::handle_error). If that propagates it, it ends the task: a
    /// [`TaskError`] is sent as it is, any other error as its text.
    fn execute(
        &self,
        task: &Task,
        input: Self::Input,
    ) -> impl Future<Output = anyhow::Result<Self::Output>> + Send;

    /// Reserves what the task needs in a synchronized group, before any subtask starts.
    ///
    /// The task already holds a slot of its queue, and keeps it. Write it as an `async fn`.
    ///
    /// [`execute`](Self::execute) reads the reservation with [`Task::reservation`]. The handler
    /// releases what it reserved: at the end of `execute`, or in
    /// [`cancel_reservation`](Self::cancel_reservation). Without this method only the slot is
    /// reserved.
    ///
    /// # Errors
    ///
    /// An error fails the round; the group tries again.
    fn reserve(
        &self,
        task: &Task,
    ) -> impl Future<Output = anyhow::Result<Self::Reservation>> + Send {
        let _ = task;
        ready(Err(anyhow::anyhow!(
            "this handler does not implement reserve"
        )))
    }

    /// Releases a reservation because the round has failed or the group has ended.
    ///
    /// Write it as an `async fn`.
    ///
    /// # Errors
    ///
    /// Any error is logged, and has no other effect.
    fn cancel_reservation(
        &self,
        task: &Task,
        reservation: Self::Reservation,
    ) -> impl Future<Output = anyhow::Result<()>> + Send {
        let _ = (task, reservation);
        ready(Ok(()))
    }

    /// Decides what happens when the task's own run, or one of its children, has failed for good.
    ///
    /// Write it as an `async fn`.
    ///
    /// By default every error is propagated to the parent. The error is also propagated if this
    /// method panics, times out, or is interrupted too often; its message then says so.
    fn handle_error(
        &self,
        task: &Task,
        error: &TaskError,
    ) -> impl Future<Output = Recovery<Self::Output>> + Send {
        let _ = (task, error);
        ready(Recovery::Propagate)
    }
}

/// The decision of [`Handler::handle_error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Recovery<T = serde_json::Value> {
    /// Propagate the error to the parent.
    Propagate,
    /// Recover. If the task's own run failed, it finishes with this output. If a child failed,
    /// the group continues with the next child, and this becomes the task's output.
    Continue(T),
}
