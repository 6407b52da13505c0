//! Directors of synchronized groups.

use std::{
    future::{Future, ready},
    sync::Arc,
};

use serde::{Serialize, de::DeserializeOwned};

use super::peer::Frestq;
use crate::model::{Json, PeerUrl, TaskId, error::Result, to_json};

/// A director of synchronized groups: it sees the reservations and may change the inputs before
/// the start.
///
/// It is registered by [`#[frestq::director]`](macro@crate::director) on the implementation.
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
/// The type implements [`Default`]: frestq creates one value of it, as for a
/// [`Handler`](crate::Handler). Every method has a default that does nothing. A call that a crash
/// interrupts is repeated; only one call of `pre_execute` takes effect.
pub trait Director: Send + Sync + 'static {
    /// Called for each subtask when all have reserved, before `pre_execute`.
    ///
    /// # Errors
    ///
    /// Any error ends the group with this error.
    fn new_reservation(
        &self,
        group: &Group,
        subtask: &Subtask,
    ) -> impl Future<Output = anyhow::Result<()>> + Send {
        let _ = (group, subtask);
        ready(Ok(()))
    }

    /// Called when all subtasks have reserved, before they start: the last chance to change their
    /// inputs.
    ///
    /// It must return before the first reservation times out (`reservation_timeout` of each
    /// receiver). Otherwise no subtask starts, the round has failed, and this is called again in
    /// the next round.
    ///
    /// # Errors
    ///
    /// Any error ends the group with this error and releases all reservations.
    fn pre_execute(&self, group: &mut Group) -> impl Future<Output = anyhow::Result<()>> + Send {
        let _ = group;
        ready(Ok(()))
    }

    /// Called after a failed round for each subtask that had reserved. Its reservation is
    /// released.
    ///
    /// # Errors
    ///
    /// Any error is logged; the next round begins anyway.
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

    /// The number of the round, from 1.
    pub fn round(&self) -> i64 {
        self.round
    }

    /// This peer.
    pub fn peer(&self) -> &Frestq {
        &self.peer
    }

    /// The subtasks, in the order in which they were added.
    pub fn subtasks(&self) -> &[Subtask] {
        &self.subtasks
    }

    /// The subtasks, for changing their inputs.
    pub fn subtasks_mut(&mut self) -> &mut [Subtask] {
        &mut self.subtasks
    }

    pub(crate) fn into_inputs(self) -> Vec<(TaskId, Json)> {
        let changed = self.subtasks.into_iter().filter(|subtask| subtask.changed);
        changed.map(|subtask| (subtask.id, subtask.input)).collect()
    }
}

/// A subtask of a synchronized group, as its director sees it.
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
    /// The subtask's id.
    pub fn id(&self) -> &TaskId {
        &self.id
    }

    /// The peer that runs it.
    pub fn receiver(&self) -> &PeerUrl {
        &self.receiver
    }

    /// Its queue.
    pub fn queue(&self) -> &str {
        &self.queue
    }

    /// Its action.
    pub fn action(&self) -> &str {
        &self.action
    }

    /// Deserializes the input.
    ///
    /// # Errors
    ///
    /// [`Error::Json`](crate::Error::Json) if it is of another shape.
    pub fn input<T: DeserializeOwned>(&self) -> Result<T> {
        Ok(serde_json::from_str(self.input.get())?)
    }

    /// Replaces the input. It takes effect in [`Director::pre_execute`].
    ///
    /// # Errors
    ///
    /// [`Error::Json`](crate::Error::Json) if the input can't be serialized.
    pub fn set_input(&mut self, input: impl Serialize) -> Result<()> {
        self.input = to_json(&input)?;
        self.changed = true;
        Ok(())
    }

    /// Deserializes the reservation.
    ///
    /// # Errors
    ///
    /// [`Error::Json`](crate::Error::Json) if it is of another shape.
    pub fn reservation<T: DeserializeOwned>(&self) -> Result<T> {
        Ok(serde_json::from_str(self.reservation.get())?)
    }
}
