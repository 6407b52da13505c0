//! Recovery of interrupted tasks: returns them to their queues.

use crate::{
    engine::Event,
    model::{NodeId, TaskId, TaskState, error::Result},
    services::Services,
    store::Waiting,
};

/// Releases the tasks that this process still runs. It must still be registered as a node, because
/// only a node delivers the resulting messages.
pub(crate) async fn release(services: &Services, node: NodeId) -> Result<()> {
    let owned = services.store.owned(node).await?;
    let events = owned.into_iter().map(|Waiting { state, .. }| {
        let TaskState {
            id, queue, action, ..
        } = state;
        interrupted(services, id, node, &queue, &action)
    });
    services.commits.submit(events.collect()).await.map(drop)
}

/// Takes over the tasks of dead processes, or of an earlier run of this one.
pub(crate) async fn take_over(services: &Services) -> Result<()> {
    const BATCH: i64 = 500;
    loop {
        let orphans = services.store.orphans(BATCH).await?;
        if orphans.is_empty() {
            return Ok(());
        }
        tracing::info!(
            target: "frestq::task",
            "{} tasks were interrupted; they return to their queues",
            orphans.len()
        );
        let events = orphans
            .into_iter()
            .map(|(id, owner, queue, action)| interrupted(services, id, owner, &queue, &action));
        services.commits.submit(events.collect()).await?;
    }
}

/// The event for an interrupted task. Only a process with the handler knows the options of its
/// action; otherwise those of the row are used.
fn interrupted(services: &Services, id: TaskId, owner: NodeId, queue: &str, action: &str) -> Event {
    let options = services.catalog.options(queue, action);
    Event::Interrupted { id, owner, options }
}
