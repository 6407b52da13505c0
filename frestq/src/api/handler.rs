//! The traits by which a function becomes a handler: its arguments, its result. And the trait of a
//! handler with more than one moment.

use std::{
    any::{Any, TypeId, type_name},
    collections::HashMap,
    future::{Future, ready},
    sync::Arc,
};

use axum::extract::State;
use serde::{Serialize, de::DeserializeOwned};

use super::{context::Task, peer::Frestq};
use crate::model::error::{Error, Result, TaskError};

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

/// The application's own settings, told from a state of the same type.
pub(crate) struct Settings<T>(pub(crate) Arc<T>);

impl<T> Clone for Settings<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
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

/// A handler with more than one moment: it runs, and it is asked what an error comes to.
///
/// Registered by [`#[frestq::task]`](macro@crate::task) on the implementation. What needs only
/// [`execute`](Self::execute) is shorter as an async function.
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
/// The type implements [`Default`], by which frestq makes one value of it when the first task comes.
/// All tasks share that value while the process lives, also at the same time, so what changes in it
/// needs a lock or an atomic; what must outlive the process belongs into the database. Values of
/// [`App::state`](crate::App::state) are reached by `task.peer().state::<T>()`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` doesn't implement `frestq::Handler`",
    note = "`#[frestq::task]` goes on an implementation of `frestq::Handler`, not on one of another trait of that name"
)]
pub trait Handler: Send + Sync + 'static {
    /// The task's input. One of another shape ends the task in error `invalid input`, which names
    /// the field.
    type Input: DeserializeOwned + Send;

    /// The task's output.
    type Output: Serialize + Send;

    /// What [`reserve`](Self::reserve) takes. May be left out: the attribute adds `()`.
    type Reservation: Serialize + DeserializeOwned + Send;

    /// Runs the task. Write it as an `async fn`.
    ///
    /// # Errors
    ///
    /// Any error, by `?`. After the `retries` of the attribute it goes to
    /// [`handle_error`](Self::handle_error), and if that lets it go on, it ends the task: a
    /// [`TaskError`] travels as it is, any other error as its text.
    fn execute(
        &self,
        task: &Task,
        input: Self::Input,
    ) -> impl Future<Output = anyhow::Result<Self::Output>> + Send;

    /// Takes what the task needs for its part in a synchronized group, in which all reserve before
    /// any starts. It holds a slot of its queue already, and keeps it. Write it as an `async fn`.
    ///
    /// [`execute`](Self::execute) finds it in [`Task::reservation`]; whoever reserves gives back, at
    /// the end of `execute` or in [`cancel_reservation`](Self::cancel_reservation). Left out, the slot
    /// is all that is reserved.
    ///
    /// # Errors
    ///
    /// With an error there is no reservation in this round; the group tries again.
    fn reserve(
        &self,
        task: &Task,
    ) -> impl Future<Output = anyhow::Result<Self::Reservation>> + Send {
        let _ = task;
        ready(Err(anyhow::anyhow!("this handler reserves nothing")))
    }

    /// Gives back what was reserved, since not all of the group could reserve in time, or the group
    /// has ended. Write it as an `async fn`.
    ///
    /// # Errors
    ///
    /// Any error is logged; it has no other effect.
    fn cancel_reservation(
        &self,
        task: &Task,
        reservation: Self::Reservation,
    ) -> impl Future<Output = anyhow::Result<()>> + Send {
        let _ = (task, reservation);
        ready(Ok(()))
    }

    /// Says what becomes of the task when its own run, or one of its children, has failed for good.
    /// Write it as an `async fn`.
    ///
    /// Left out, every error goes on to the parent. So does the error if this panics, takes too long or
    /// is cut off too often; its message says so then.
    fn handle_error(
        &self,
        task: &Task,
        error: &TaskError,
    ) -> impl Future<Output = Recovery<Self::Output>> + Send {
        let _ = (task, error);
        ready(Recovery::Propagate)
    }
}

/// What becomes of a task after an error, as [`Handler::handle_error`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Recovery<T = serde_json::Value> {
    /// The error goes on to the parent.
    Propagate,
    /// The task counts as recovered. If its own run failed, it finishes with this output; if a child
    /// failed, the group goes on with the next child and the task's output becomes this one.
    Continue(T),
}
