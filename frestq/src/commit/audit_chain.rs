//! The chain of the audit that this process writes.

use crate::model::audit::Head;

/// A chain that one process writes at a time. It is that of its name, which outlives the process.
pub(crate) struct AuditChain {
    pub(super) name: Box<str>,
    /// How far it goes, if that is known: not before the first transaction, nor after one that failed,
    /// which may have come through all the same, or have met another process at the chain.
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
