//! Outgoing messages get their ids and their final bytes.

use std::{collections::HashMap, sync::Arc};

use jiff::Timestamp;

use super::committer::Committer;
use crate::{
    engine::Changes,
    model::{
        Data, Json, MessageId, NewTask, OutboxRow, Outgoing, TaskId,
        error::{Error, Result},
        null,
    },
    protocol::encode::{Payload, Receiver, freeze},
    store::{Content, PeerRow},
};

impl Committer {
    /// Gives each outgoing message its id and its final bytes.
    pub(super) async fn freeze(
        &mut self,
        changes: &Changes,
        now: Timestamp,
    ) -> Result<Vec<OutboxRow>> {
        if changes.outgoing.is_empty() {
            return Ok(Vec::new());
        }
        let created = changes.created.iter();
        let created: HashMap<_, _> = created.map(|new| (&new.state.id, new)).collect();
        let stored = self.contents(changes, &created).await?;
        let contents = Contents {
            changes,
            created,
            stored,
            nothing: null(),
        };
        let mut rows = Vec::with_capacity(changes.outgoing.len());
        for message in &changes.outgoing {
            let Some(peer) = self.receiver(message).await? else {
                continue;
            };
            let id = MessageId::generate();
            let receiver = Receiver {
                url: &peer.url,
                // Who asks for a reservation in a numbered round has shown that it reads the
                // number.
                extensions: peer.health.extensions
                    || (message.round.is_some() && matches!(message.data, Data::Confirm { .. })),
            };
            let payload = contents.payload(message)?;
            rows.push(OutboxRow {
                seq: 0,
                peer: message.peer,
                body: freeze(message, &payload, &id, &self.url, &receiver)?.into(),
                message: id,
                queue: message.queue.clone(),
                action: message.action.clone(),
                task: message.task.clone(),
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

    /// The peer that a message is for; `None`: it would not understand it.
    async fn receiver(&mut self, message: &Outgoing) -> Result<Option<Arc<PeerRow>>> {
        let peer = self.peers.get(&self.store, message.peer).await?;
        if !message.needs_extensions || peer.health.extensions {
            return Ok(Some(peer));
        }
        if self.store.is_exclusive() {
            return Ok(None);
        }
        // Another process may have heard from it.
        let peer = self.peers.read_again(&self.store, message.peer).await?;
        Ok(Some(peer).filter(|peer| peer.health.extensions))
    }

    /// When to give up a message that is not to be sent yet: it has as much time as others, from
    /// its first attempt on.
    fn end_of_delayed(&self, message: &Outgoing) -> Option<Timestamp> {
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

/// What messages of a batch can hold.
struct Contents<'a> {
    changes: &'a Changes,
    created: HashMap<&'a TaskId, &'a NewTask>,
    stored: HashMap<TaskId, Content>,
    nothing: Json,
}

impl Contents<'_> {
    /// What a message holds: what it brings itself, or what the batch or the database has.
    fn payload<'m>(&'m self, message: &'m Outgoing) -> Result<Payload<'m>> {
        let task = &message.task;
        let stored = self.stored.get(task);
        Ok(match &message.data {
            Data::Nothing => Payload::Data(&self.nothing),
            Data::Input => {
                let (input, info, pingback_at) = self.content(task)?;
                Payload::Task {
                    input,
                    info,
                    pingback_at,
                }
            }
            Data::Synchronize { queue, action } => {
                let (input, _, pingback_at) = self.content(task)?;
                Payload::Synchronize {
                    queue,
                    action,
                    input,
                    pingback_at,
                }
            }
            Data::Execute { queue, action } => Payload::Execute {
                queue,
                action,
                input: self.content(task)?.0,
            },
            Data::Confirm {
                reservation,
                seconds,
            } => Payload::Confirm {
                reservation: reservation
                    .as_ref()
                    .or_else(|| self.changes.reservations.get(task))
                    .or(stored.map(|row| &row.reservation))
                    .unwrap_or(&self.nothing),
                seconds: *seconds,
            },
            Data::Update { status, output } => Payload::Update {
                status: *status,
                output: output
                    .as_ref()
                    .or_else(|| self.changes.outputs.get(task))
                    .or(stored.map(|row| &row.output))
                    .unwrap_or(&self.nothing),
            },
        })
    }

    /// The input of a task as it is by now, with its info and pingback date.
    fn content(&self, task: &TaskId) -> Result<(&Json, Option<&str>, Option<Timestamp>)> {
        let (input, info, pingback_at) = match (self.created.get(task), self.stored.get(task)) {
            (Some(new), _) => (&new.input, new.info.as_deref(), new.pingback_at),
            (None, Some(row)) => (&row.input, row.info.as_deref(), row.pingback_at),
            (None, None) => return Err(Error::UnknownTask(task.clone())),
        };
        let input = self.changes.inputs.get(task).unwrap_or(input);
        Ok((input, info, pingback_at))
    }
}
