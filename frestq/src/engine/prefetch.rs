//! The rows that an event is sure to need.

use super::{
    batch_state::{MissingRow, RowRequests},
    event::{Event, MessageKind},
};

/// Requests the rows that an event is sure to need, so that most steps miss nothing.
pub(crate) fn prefetch(event: &Event, wanted: &mut RowRequests) {
    let task = match event {
        Event::Send(tree) => {
            let key = tree.first().and_then(|root| root.unique_key.clone());
            if let Some(key) = key {
                wanted.add(MissingRow::Key(key));
            }
            None
        }
        Event::Receive(received) => {
            wanted.add(MissingRow::Inbox(received.row.key.clone()));
            match &received.what {
                MessageKind::Task(task) => Some(&task.state.id),
                MessageKind::Update(update) => Some(&update.task),
                MessageKind::Synchronize(task) => Some(&task.state.id),
                MessageKind::Cancel(id) => Some(id),
                MessageKind::Confirm { task, .. }
                | MessageKind::Refuse { task, .. }
                | MessageKind::Release { task, .. }
                | MessageKind::Execute { task, .. } => Some(task),
            }
        }
        Event::Completed { id, .. }
        | Event::Progress { id, .. }
        | Event::Interrupted { id, .. }
        | Event::Expire(id)
        | Event::Wake(id)
        | Event::Cancel { id, .. }
        | Event::FinishExternal { id, .. } => Some(id),
        Event::Delivery(delivery) => {
            Some(&delivery.message.task).filter(|_| delivery.message.carries_task)
        }
    };
    if let Some(id) = task {
        wanted.add(MissingRow::Task(id.clone()));
    }
}
