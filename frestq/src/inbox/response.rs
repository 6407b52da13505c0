//! The answer to a request, and why a message is rejected.

use crate::{model::error::Error, protocol::internal_data::BatchAnswer};

/// The answer to a request.
#[derive(Debug)]
pub(crate) enum Response {
    /// 200: stored.
    Accepted,
    /// 200 with one answer for each message of a batch.
    Batch(Vec<BatchAnswer>),
    /// Anything else, with the words for the sender.
    Rejected(Rejection),
}

/// Why a message is not taken.
#[derive(Clone, Debug)]
pub(crate) struct Rejection {
    pub(crate) status: u16,
    pub(crate) message: String,
}

impl Rejection {
    pub(super) fn new(status: u16, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }
}

/// Our own troubles are no reason to give up on us.
pub(super) fn overloaded(error: &Error) -> Rejection {
    match error {
        Error::Overloaded => Rejection::new(503, "too many messages at once"),
        Error::Stopping => Rejection::new(503, "this peer is stopping"),
        error => {
            // The sender learns nothing about our database.
            tracing::error!(error = %error.with_causes(), "a message could not be stored");
            Rejection::new(503, "this peer can't store messages now")
        }
    }
}

/// The same for a task that nobody knows and for somebody else's.
pub(super) fn unknown_task() -> Rejection {
    Rejection::new(404, "there is no such task of yours here")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::error::DatabaseError;

    #[test]
    fn the_sender_learns_nothing_about_our_database() {
        let io = std::io::Error::other("secret");
        for error in [
            Error::Database(DatabaseError::new("SELECT secret")),
            Error::Corrupt {
                what: "table secret".into(),
                why: "secret".into(),
            },
            Error::Io {
                what: "can't read /secret".into(),
                source: io,
            },
            Error::Invalid("secret".into()),
        ] {
            let Rejection { status, message } = overloaded(&error);
            assert_eq!(
                (status, message.as_str()),
                (503, "this peer can't store messages now")
            );
        }
    }
}
