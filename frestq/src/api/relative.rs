//! Other tasks of the same tree, as a handler sees them.

use serde::de::DeserializeOwned;

use super::peer::Frestq;
use crate::model::{
    Status, TaskId, TaskRecord,
    error::{Error, Result, TaskError},
};

/// A task near the running one: its parent, a sibling, a child.
#[derive(Clone, Debug)]
pub struct Relative {
    peer: Frestq,
    record: TaskRecord,
}

impl Relative {
    pub(crate) fn new(peer: Frestq, record: TaskRecord) -> Self {
        Self { peer, record }
    }

    /// Its id.
    pub fn id(&self) -> &TaskId {
        &self.record.id
    }

    /// Everything that is stored of it, as it was when it was looked up.
    pub fn record(&self) -> &TaskRecord {
        &self.record
    }

    /// Its input as a type of yours.
    ///
    /// # Errors
    ///
    /// [`Error::Json`] if it is of another shape.
    pub fn input<T: DeserializeOwned>(&self) -> Result<T> {
        Ok(serde_json::from_str(self.record.input_data.get())?)
    }

    /// Its output as a type of yours.
    ///
    /// # Errors
    ///
    /// [`Error::Task`] with what it failed with, [`Error::Json`] if the output is of another shape;
    /// the output of a task that has not ended is what it has so far, `null` at first.
    pub fn output<T: DeserializeOwned>(&self) -> Result<T> {
        let output = self.record.output_data.get();
        if self.record.status.is_terminal() && self.record.status != Status::Finished {
            return Err(Error::Task {
                id: self.record.id.clone(),
                error: Box::new(TaskError::from_output(&self.record.output_data)),
            });
        }
        Ok(serde_json::from_str(output)?)
    }

    /// Its own subtasks, in order.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn children(&self) -> Result<Relatives> {
        let family = self.peer.services.store.children(&self.record.id).await?;
        Ok(Relatives::new(&self.peer, family))
    }
}

/// Tasks of one family, in order.
#[derive(Clone, Debug)]
pub struct Relatives(Vec<Relative>);

impl Relatives {
    pub(crate) fn new(peer: &Frestq, records: impl IntoIterator<Item = TaskRecord>) -> Self {
        let records = records.into_iter();
        Self(
            records
                .map(|record| Relative::new(peer.clone(), record))
                .collect(),
        )
    }

    /// Their outputs, in order.
    ///
    /// # Errors
    ///
    /// That of the first one whose output can't be had ([`Relative::output`]).
    pub fn outputs<T: DeserializeOwned>(&self) -> Result<Vec<T>> {
        self.0.iter().map(Relative::output).collect()
    }

    /// The one with this label.
    pub fn labelled(&self, label: &str) -> Option<&Relative> {
        let has = |relative: &&Relative| relative.record.label.as_deref() == Some(label);
        self.0.iter().find(has)
    }

    /// Each of them.
    pub fn iter(&self) -> std::slice::Iter<'_, Relative> {
        self.0.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
