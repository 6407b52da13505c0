//! Runs that were interrupted: their tasks go back to their queues.

use crate::{
    engine::Event,
    model::{NodeId, TaskId, TaskState, error::Result},
    services::Services,
    store::Waiting,
};

/// Puts back what this process still runs. It stays a node meanwhile, since only a node delivers the
/// messages that follow.
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

/// Puts back what other processes, or an earlier life of this one, left running.
pub(crate) async fn take_over(services: &Services) -> Result<()> {
    const AT_ONCE: i64 = 500;
    loop {
        let orphans = services.store.orphans(AT_ONCE).await?;
        if orphans.is_empty() {
            return Ok(());
        }
        tracing::info!(
            "{} runs were interrupted; their tasks go back",
            orphans.len()
        );
        let events = orphans
            .into_iter()
            .map(|(id, owner, queue, action)| interrupted(services, id, owner, &queue, &action));
        services.commits.submit(events.collect()).await?;
    }
}

/// Only a process that has the handler knows the options of its action. Another process goes by the
/// row.
fn interrupted(services: &Services, id: TaskId, owner: NodeId, queue: &str, action: &str) -> Event {
    let options = services.catalog.options(queue, action);
    Event::Interrupted { id, owner, options }
}
