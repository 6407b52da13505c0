//! The audit chain that this process writes.

use crate::model::audit::Head;

/// An audit chain, written by one process at a time. Its name outlives the process.
pub(crate) struct AuditChain {
    pub(super) name: Box<str>,
    /// The head of the chain, if it is known. It is unknown before the first transaction, and
    /// after one that failed: that one may have been committed all the same, or another process
    /// may write the chain.
    pub(super) head: Option<Head>,
}

impl AuditChain {
    pub(crate) fn new(name: String) -> Self {
        Self {
            name: name.into(),
            head: None,
        }
    }
}
