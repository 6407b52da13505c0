//! The database, whichever it is.

use jiff::Timestamp;
use tokio::sync::mpsc;

use super::{due::Wake, either::on_either, migrations::OpenMode, writer::Writer};
use crate::model::{
    NodeId, PeerId,
    error::{Error, Result},
};

/// The database, for reading, and for peers and nodes.
#[derive(Debug)]
pub(crate) enum Store {
    #[cfg(feature = "sqlite")]
    Sqlite(super::sqlite::Sqlite),
    #[cfg(feature = "postgres")]
    Postgres(super::postgres::Postgres),
}

impl Store {
    /// Opens the database at `sqlite:PATH` or `postgres://...`.
    pub(crate) async fn open(url: &str, purpose: OpenMode) -> Result<Self> {
        if let Some(path) = url.strip_prefix("sqlite:") {
            #[cfg(feature = "sqlite")]
            return Ok(Self::Sqlite(
                super::sqlite::Sqlite::open(path.trim_start_matches("//"), purpose).await?,
            ));
            #[cfg(not(feature = "sqlite"))]
            return Err(feature_is_off("sqlite"));
        }
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            #[cfg(feature = "postgres")]
            return Ok(Self::Postgres(
                super::postgres::Postgres::open(url, purpose).await?,
            ));
            #[cfg(not(feature = "postgres"))]
            return Err(feature_is_off("postgres"));
        }
        Err(Error::Config(format!(
            "database {:?} is neither sqlite:PATH nor postgres://USER@HOST/NAME",
            url.split(':').next().unwrap_or_default()
        )))
    }

    /// Whether no other process can change tasks while this one serves.
    pub(crate) fn is_exclusive(&self) -> bool {
        on_either!(self, sqlite(_) => true, postgres(_) => false)
    }

    /// The connection that writes.
    pub(crate) async fn writer(&self) -> Result<Writer> {
        Ok(on_either!(
            self,
            sqlite(store) => Writer::Sqlite(store.writer().await?),
            postgres(store) => Writer::Postgres(store.writer().await?),
        ))
    }

    /// Whether no other process serves this database. On SQLite, this process holds its lock from
    /// then on, so that none can begin to.
    pub(crate) async fn is_alone(&mut self) -> Result<bool> {
        on_either!(
            self,
            sqlite(store) => store.take_lock(),
            postgres(store) => store.is_alone().await,
        )
    }

    /// Runs the application's own statements for making tables.
    pub(crate) async fn run_schema(&self, statements: &[&str]) -> Result<()> {
        on_either!(self, store => store.run_schema(statements).await)
    }

    /// Enters this process among the nodes, in the place of an earlier one of that name.
    pub(crate) async fn join(&self, name: &str, now: Timestamp) -> Result<NodeId> {
        on_either!(self, store => store.join(name, now).await)
    }

    /// Extends the leases of everything this process runs. `false`: it was given up for dead.
    pub(crate) async fn heartbeat(&self, node: NodeId) -> Result<bool> {
        on_either!(self, store => store.heartbeat(node).await)
    }

    /// Restores a process whose lease had expired: it owns again what it runs and what was not put
    /// back meanwhile. `false`: another process has taken its name, so it is not needed.
    pub(crate) async fn join_again(&self, node: NodeId, name: &str) -> Result<bool> {
        on_either!(
            self,
            // The file's lock is a lease that never runs out.
            sqlite(_) => Ok(true),
            postgres(store) => store.join_again(node, name).await,
        )
    }

    /// Removes this process; whatever it still owns can be taken over.
    pub(crate) async fn leave(&self, node: NodeId) -> Result<()> {
        on_either!(self, store => store.leave(node).await)
    }

    /// Makes `node` the one process that delivers to `peer`, if no other live one does. To be
    /// asked again before every pass: `false` says that another one has taken over, or must have.
    pub(crate) async fn claim_delivery(&self, peer: PeerId, node: NodeId) -> Result<bool> {
        on_either!(
            self,
            sqlite(_) => Ok(true),
            postgres(store) => store.claim_delivery(peer, node).await,
        )
    }

    /// What other processes on this database commit from now on; `None`: there can't be any.
    ///
    /// Whoever listens looks at everything once, after this call.
    pub(crate) async fn wakes(&self) -> Result<Option<mpsc::Receiver<Wake>>> {
        on_either!(
            self,
            sqlite(_) => Ok(None),
            postgres(store) => store.wakes().await.map(Some),
        )
    }

    /// Whether the file system that holds the database has at least this much room. Always, where
    /// the database is on a server.
    pub(crate) fn has_room(&self, bytes: u64) -> bool {
        on_either!(
            self,
            sqlite(store) => store.has_room(bytes),
            postgres(_) => true,
        )
    }

    pub(crate) async fn close(&self) {
        on_either!(self, store => store.close().await)
    }
}

/// The address needs a database that this build doesn't have.
#[cfg(not(all(feature = "sqlite", feature = "postgres")))]
fn feature_is_off(feature: &str) -> Error {
    Error::Config(format!(
        "`database` needs the feature `{feature}` of the crate frestq, which this binary was built without"
    ))
}
