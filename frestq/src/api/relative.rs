//! Relatives: other tasks of the same tree, as a handler sees them.

use serde::de::DeserializeOwned;

use super::peer::Frestq;
use crate::model::{
    Status, TaskId, TaskRecord,
    error::{Error, Result, TaskError},
};

/// A relative of the running task: its parent, a sibling or a child.
#[derive(Clone, Debug)]
pub struct Relative {
    peer: Frestq,
    record: TaskRecord,
}

impl Relative {
    pub(crate) fn new(peer: Frestq, record: TaskRecord) -> Self {
        Self { peer, record }
    }

    /// The task's id.
    pub fn id(&self) -> &TaskId {
        &self.record.id
    }

    /// The stored task, as it was when it was read.
    pub fn record(&self) -> &TaskRecord {
        &self.record
    }

    /// Deserializes the input.
    ///
    /// # Errors
    ///
    /// [`Error::Json`] if the input has another shape.
    pub fn input<T: DeserializeOwned>(&self) -> Result<T> {
        Ok(serde_json::from_str(self.record.input_data.get())?)
    }

    /// Deserializes the output.
    ///
    /// A task that has not ended has the output so far, `null` at first.
    ///
    /// # Errors
    ///
    /// [`Error::Task`] with the task's error if it has failed, [`Error::Json`] if the output has
    /// another shape.
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

    /// The task's own subtasks, in order.
    ///
    /// # Errors
    ///
    /// Errors of the database.
    pub async fn children(&self) -> Result<Relatives> {
        let children = self.peer.services.store.children(&self.record.id).await?;
        Ok(Relatives::new(&self.peer, children))
    }
}

/// A list of relatives, in order.
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

    /// Deserializes the outputs, in order.
    ///
    /// # Errors
    ///
    /// The error of the first task whose output can't be read ([`Relative::output`]).
    pub fn outputs<T: DeserializeOwned>(&self) -> Result<Vec<T>> {
        self.0.iter().map(Relative::output).collect()
    }

    /// The first task with this label.
    pub fn labelled(&self, label: &str) -> Option<&Relative> {
        let has = |relative: &&Relative| relative.record.label.as_deref() == Some(label);
        self.0.iter().find(has)
    }

    /// Iterates over the tasks.
    pub fn iter(&self) -> std::slice::Iter<'_, Relative> {
        self.0.iter()
    }

    /// The number of tasks.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the list is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
