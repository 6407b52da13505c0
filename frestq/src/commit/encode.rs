//! Outgoing messages get their ids and their final bytes.

use std::collections::HashMap;

use super::committer::Committer;
use crate::{
    engine::Changes,
    model::{
        Data, MessageId, NewTask, OutboxRow, Outgoing, TaskId,
        error::{Error, Result},
    },
    protocol::envelope::{Payload, Receiver, freeze},
    store::Content,
};

impl Committer {
    /// Gives each outgoing message its id and its final bytes.
    pub(super) async fn freeze(
        &mut self,
        changes: &Changes,
        now: jiff::Timestamp,
    ) -> Result<Vec<OutboxRow>> {
        if changes.outgoing.is_empty() {
            return Ok(Vec::new());
        }
        let created = changes.created.iter();
        let created: HashMap<_, _> = created.map(|new| (&new.state.id, new)).collect();
        let stored = self.contents(changes, &created).await?;
        let mut rows = Vec::with_capacity(changes.outgoing.len());
        for message in &changes.outgoing {
            let mut peer = self.peers.get(&self.store, message.peer).await?;
            if message.needs_extensions && !peer.health.extensions {
                if !self.store.is_exclusive() {
                    // Another process may have heard from it.
                    peer = self.peers.read_again(&self.store, message.peer).await?;
                }
                if !peer.health.extensions {
                    continue;
                }
            }
            let id = MessageId::generate();
            let receiver = Receiver {
                url: &peer.url,
                // Who asks for a reservation in a numbered round has shown that it reads the number.
                extensions: peer.health.extensions
                    || (message.round.is_some() && matches!(message.data, Data::Confirm { .. })),
            };
            let task = &message.task;
            let new = created.get(task).copied();
            let content = match new {
                Some(new) => Some((
                    changes.inputs.get(task).unwrap_or(&new.input),
                    new.info.as_deref(),
                    new.state.trace.as_deref(),
                    new.pingback_at,
                )),
                None => stored.get(task).map(|row| {
                    let input = changes.inputs.get(task).unwrap_or(&row.input);
                    (
                        input,
                        row.info.as_deref(),
                        row.trace.as_deref(),
                        row.pingback_at,
                    )
                }),
            };
            let nothing = crate::model::null();
            let payload = match &message.data {
                Data::Nothing => Payload::Data(&nothing),
                Data::Input => match content {
                    Some((input, info, trace, pingback_at)) => Payload::Task {
                        input,
                        info,
                        trace,
                        pingback_at,
                    },
                    None => return Err(Error::UnknownTask(task.clone())),
                },
                Data::Synchronize { queue, action } => match content {
                    Some((input, _, trace, pingback_at)) => Payload::Synchronize {
                        queue,
                        action,
                        input,
                        trace,
                        pingback_at,
                    },
                    None => return Err(Error::UnknownTask(task.clone())),
                },
                Data::Execute { queue, action } => match content {
                    Some((input, ..)) => Payload::Execute {
                        queue,
                        action,
                        input,
                    },
                    None => return Err(Error::UnknownTask(task.clone())),
                },
                Data::Confirm {
                    reservation,
                    seconds,
                } => Payload::Confirm {
                    reservation: reservation
                        .as_ref()
                        .or_else(|| changes.reservations.get(task))
                        .or_else(|| stored.get(task).map(|row| &row.reservation))
                        .unwrap_or(&nothing),
                    seconds: *seconds,
                },
                Data::Update { status, output } => Payload::Update {
                    status: *status,
                    output: output
                        .as_ref()
                        .or_else(|| changes.outputs.get(task))
                        .or_else(|| stored.get(task).map(|row| &row.output))
                        .unwrap_or(&nothing),
                },
            };
            rows.push(OutboxRow {
                seq: 0,
                peer: message.peer,
                body: freeze(message, &payload, &id, &self.url, &receiver)?.into(),
                message: id,
                queue: message.queue.clone(),
                action: message.action.clone(),
                task: task.clone(),
                carries_task: message.carries_task,
                pin: message.pin,
                expires_at: message.expires_at.or(self.end_of_delayed(message)),
                attempts: 0,
                due_at: message.not_before.unwrap_or(now),
                moot: false,
                created_at: now,
            });
        }
        Ok(rows)
    }

    /// When to give up a message that is not to be sent yet: it has as much time as others, from its
    /// first attempt on.
    fn end_of_delayed(&self, message: &Outgoing) -> Option<jiff::Timestamp> {
        let first = message.not_before?;
        first.checked_add(self.give_up_after).ok()
    }

    /// Loads the payloads that messages need and this batch has not brought.
    async fn contents(
        &mut self,
        changes: &Changes,
        created: &HashMap<&TaskId, &NewTask>,
    ) -> Result<HashMap<TaskId, Content>> {
        let needed = changes
            .outgoing
            .iter()
            .filter(|message| match &message.data {
                Data::Nothing => false,
                Data::Input | Data::Synchronize { .. } | Data::Execute { .. } => {
                    !created.contains_key(&message.task)
                }
                Data::Confirm { reservation, .. } => reservation.is_none(),
                Data::Update { output, .. } => {
                    output.is_none()
                        && !changes.outputs.contains_key(&message.task)
                        && !created.contains_key(&message.task)
                }
            });
        let needed: Vec<_> = needed.map(|message| &message.task).collect();
        if needed.is_empty() {
            return Ok(HashMap::new());
        }
        Ok(self.writer.contents(&needed).await?.into_iter().collect())
    }
}
