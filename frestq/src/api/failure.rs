//! What the error of a handler becomes.

use crate::model::error::{DatabaseError, Error, TaskError};

/// What a handler's error becomes: itself if it is a `TaskError`, else `failed` with its chain of
/// causes as the message.
///
/// It goes to the task's sender. So where an error of frestq is among the causes, the rest is
/// what this peer may say of it, and the log has the whole.
pub(crate) fn task_error(error: anyhow::Error) -> TaskError {
    let error = match error.downcast::<TaskError>() {
        Ok(error) => return error,
        Err(error) => error,
    };
    let mut told = Vec::new();
    for cause in error.chain() {
        if let Some(ours) = cause.downcast_ref::<Error>() {
            match ours.public_text() {
                Some(text) => told.push(text),
                None => told.push(INSIDE.to_owned()),
            }
            if ours.public_text().is_none() || matches!(ours, Error::Database(_)) {
                tracing::error!("a handler failed: {error:#}");
                break;
            }
        } else if cause.is::<DatabaseError>() {
            break;
        } else {
            told.push(cause.to_string());
        }
    }
    TaskError::new(TaskError::FAILED, told.join(": "))
}

/// What others learn of what is wrong inside this peer.
pub(crate) const INSIDE: &str = "something is wrong inside this peer; its log says what";

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    fn message(error: anyhow::Error) -> String {
        task_error(error).message().to_owned()
    }

    #[test]
    fn a_handlers_own_error_has_its_causes() {
        let error = anyhow::anyhow!("no room").context("counting");
        assert_eq!(message(error), "counting: no room");
        let error: anyhow::Error = Error::Invalid("not that way".into()).into();
        assert_eq!(message(error.context("asking")), "asking: not that way");
        let task = TaskError::new("full", "no seat");
        assert_eq!(task_error(task.clone().into()), task);
    }

    #[test]
    fn what_is_inside_this_peer_does_not_go_to_the_sender() {
        let database = Error::Database(DatabaseError::new("syntax error in SELECT secret"));
        let corrupt = Error::Corrupt {
            what: "tasks.secret".into(),
            why: "the secret is 7".into(),
        };
        let file = std::io::Error::other("secret");
        let file = Error::Io {
            what: "can't read /secret/key".into(),
            source: file,
        };
        for error in [database, corrupt, file] {
            let said = message(Err::<(), _>(error).context("looking it up").unwrap_err());
            assert!(said.starts_with("looking it up: "), "{said}");
            assert!(!said.contains("secret"), "{said}");
        }
    }
}
