//! Registers and removes peers in the database. The audit entry is written in the same
//! transaction.

use crate::{
    commit::queue::CommitQueue,
    model::{
        PeerChange, PeerRegistration,
        audit::Entry,
        error::{Error, Result},
    },
    peers::registry::PeerRegistry,
};

/// Registers a peer, or changes its registration. Returns one line that says what was done.
///
/// # Errors
///
/// [`Error::Invalid`] with the reason; [`Error::Config`] if this peer has no certificate; errors
/// of the database. In each case the peer is not registered.
pub(crate) async fn add(
    registry: &PeerRegistry,
    commits: &CommitQueue,
    new: PeerRegistration,
    entry: Entry,
) -> Result<String> {
    let change = registry.change().await;
    let verb = match change.check(&new).await? {
        true => "changed",
        false => "registered",
    };
    let done = format!("peer {} at {} is {verb}", new.name, new.url);
    let (entry, added) = (entry.answered(&done), PeerChange::Add(new.clone().into()));
    commits.change_peers(added, entry.clone()).await?;
    match change.apply(Some(&new)).await {
        Ok(()) => Ok(done),
        Err(Error::Invalid(why)) => {
            let entry = entry.answered(&format!("undone: {why}"));
            let removed = PeerChange::Remove(new.name.clone());
            commits.change_peers(removed, entry).await?;
            change.apply(None).await?;
            Err(Error::Invalid(why))
        }
        Err(error) => Err(error),
    }
}

/// Removes a peer that was registered in the database. Returns one line that says what was done.
///
/// # Errors
///
/// [`Error::Invalid`] if no peer has this name; errors of the database.
pub(crate) async fn remove(
    registry: &PeerRegistry,
    commits: &CommitQueue,
    name: &str,
    entry: Entry,
) -> Result<String> {
    let change = registry.change().await;
    let done = format!("peer {name} is removed");
    let removed = PeerChange::Remove(name.to_owned());
    if !commits.change_peers(removed, entry.answered(&done)).await? {
        return Err(change.nothing_to_remove(name));
    }
    change.apply(None).await?;
    Ok(done)
}
