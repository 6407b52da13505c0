//! Who directs a synchronized group: sees what was reserved, and has the last word on the inputs.

use std::{
    future::{Future, ready},
    sync::Arc,
};

use serde::{Serialize, de::DeserializeOwned};

use super::peer::Frestq;
use crate::model::{Json, PeerUrl, TaskId, error::Result, to_json};

/// The director of synchronized groups, registered by
/// [`#[frestq::director]`](macro@crate::director) on the implementation.
///
/// ```
/// use frestq::prelude::*;
///
/// #[derive(Default)]
/// struct Conductor;
///
/// #[frestq::director(name = "conductor")]
/// impl Director for Conductor {
///     async fn pre_execute(&self, group: &mut Group) -> anyhow::Result<()> {
///         let seats = group.subtasks().len();
///         for subtask in group.subtasks_mut() {
///             subtask.set_input(&seats)?;
///         }
///         Ok(())
///     }
/// }
///
/// let concert = Synchronized::<Conductor>::new();
/// ```
///
/// The type implements [`Default`], by which frestq makes one value of it, as of a
/// [`Handler`](crate::Handler). Every method has a default that does nothing. A method that a crash
/// cuts off is called again; of `pre_execute` just one call has an effect on the group.
pub trait Director: Send + Sync + 'static {
    /// All have reserved; this is called for each of them, before `pre_execute`.
    ///
    /// # Errors
    ///
    /// Any error ends the group with it.
    fn new_reservation(
        &self,
        group: &Group,
        subtask: &Subtask,
    ) -> impl Future<Output = anyhow::Result<()>> + Send {
        let _ = (group, subtask);
        ready(Ok(()))
    }

    /// All have reserved, and start once this has returned: the last chance to change their inputs.
    ///
    /// It has as long as the reservations stand (each performer's `reservation_timeout`). If one of them
    /// is over before, nothing starts: the round has failed, and this is called again in the next one.
    ///
    /// # Errors
    ///
    /// Any error ends the group with it, and everything reserved is given back.
    fn pre_execute(&self, group: &mut Group) -> impl Future<Output = anyhow::Result<()>> + Send {
        let _ = group;
        ready(Ok(()))
    }

    /// A round is over in which this one had reserved and another one had not; what it had reserved is
    /// given back.
    ///
    /// # Errors
    ///
    /// Any error is logged; the next round begins all the same.
    fn cancelled_reservation(
        &self,
        group: &Group,
        subtask: &Subtask,
    ) -> impl Future<Output = anyhow::Result<()>> + Send {
        let _ = (group, subtask);
        ready(Ok(()))
    }
}

/// A synchronized group, as its director sees it.
#[derive(Clone, Debug)]
pub struct Group {
    peer: Frestq,
    id: TaskId,
    round: i64,
    subtasks: Vec<Subtask>,
}

impl Group {
    pub(crate) fn new(peer: Frestq, id: TaskId, round: i64, subtasks: Vec<Subtask>) -> Self {
        Self {
            peer,
            id,
            round,
            subtasks,
        }
    }

    /// The group's id.
    pub fn id(&self) -> &TaskId {
        &self.id
    }

    /// Which round it is in, from 1.
    pub fn round(&self) -> i64 {
        self.round
    }

    /// This peer.
    pub fn peer(&self) -> &Frestq {
        &self.peer
    }

    /// Its tasks, in the order in which they were added.
    pub fn subtasks(&self) -> &[Subtask] {
        &self.subtasks
    }

    /// The same, to be changed.
    pub fn subtasks_mut(&mut self) -> &mut [Subtask] {
        &mut self.subtasks
    }

    pub(crate) fn into_inputs(self) -> Vec<(TaskId, Json)> {
        let changed = self.subtasks.into_iter().filter(|subtask| subtask.changed);
        changed.map(|subtask| (subtask.id, subtask.input)).collect()
    }
}

/// A task of a synchronized group.
#[derive(Clone, Debug)]
pub struct Subtask {
    pub(crate) id: TaskId,
    pub(crate) receiver: PeerUrl,
    pub(crate) queue: Arc<str>,
    pub(crate) action: Arc<str>,
    pub(crate) input: Json,
    pub(crate) reservation: Json,
    pub(crate) reserved: bool,
    pub(crate) changed: bool,
}

impl Subtask {
    /// Its id.
    pub fn id(&self) -> &TaskId {
        &self.id
    }

    /// The peer that performs it.
    pub fn receiver(&self) -> &PeerUrl {
        &self.receiver
    }

    /// The queue it goes to.
    pub fn queue(&self) -> &str {
        &self.queue
    }

    /// The action it asks for.
    pub fn action(&self) -> &str {
        &self.action
    }

    /// Its input as a type of yours.
    ///
    /// # Errors
    ///
    /// [`Error::Json`](crate::Error::Json) if it is of another shape.
    pub fn input<T: DeserializeOwned>(&self) -> Result<T> {
        Ok(serde_json::from_str(self.input.get())?)
    }

    /// Replaces its input; of effect in [`Director::pre_execute`].
    ///
    /// # Errors
    ///
    /// [`Error::Json`](crate::Error::Json) if it can't be written as JSON.
    pub fn set_input(&mut self, input: impl Serialize) -> Result<()> {
        self.input = to_json(&input)?;
        self.changed = true;
        Ok(())
    }

    /// What its performer has reserved, as a type of yours.
    ///
    /// # Errors
    ///
    /// [`Error::Json`](crate::Error::Json) if it is of another shape.
    pub fn reservation<T: DeserializeOwned>(&self) -> Result<T> {
        Ok(serde_json::from_str(self.reservation.get())?)
    }
}
