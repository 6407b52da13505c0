//! What a view answers that fails with an error of ours.

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};

use super::failure::INSIDE;
use crate::model::error::Error;

/// A status and a sentence; what is about the inside of this peer is logged instead.
impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let status = match &self {
            Error::PeerUrl(_) | Error::Invalid(_) => StatusCode::BAD_REQUEST,
            Error::UnknownPeer(_) => StatusCode::FORBIDDEN,
            Error::UnknownTask(_) => StatusCode::NOT_FOUND,
            Error::Pruned { .. } => StatusCode::GONE,
            Error::Overloaded | Error::Stopping | Error::Database(_) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        if status.is_server_error() && !matches!(self, Error::Overloaded | Error::Stopping) {
            tracing::error!(error = %self.with_causes(), "a view failed");
        }
        let text = self.public_text();
        let text = text.as_deref().unwrap_or(INSIDE);
        (status, format!("{text}\n")).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::error::{DatabaseError, TaskError};

    async fn answer(error: Error) -> (u16, String) {
        let response = error.into_response();
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), 10_000).await;
        (status, String::from_utf8(body.unwrap().to_vec()).unwrap())
    }

    #[tokio::test]
    async fn what_concerns_the_callers_own_request_is_said() {
        let url = "http://a.example.org/api/queues";
        let unreadable = "nonsense".parse::<crate::PeerUrl>().unwrap_err();
        for (error, status, words) in [
            (Error::PeerUrl(unreadable), 400, "nonsense"),
            (
                Error::Invalid("task a has ended".into()),
                400,
                "task a has ended",
            ),
            (Error::UnknownPeer(url.parse().unwrap()), 403, url),
            (Error::UnknownTask("a".into()), 404, "no task a"),
            (
                Error::Pruned {
                    id: "a".into(),
                    at: jiff::Timestamp::UNIX_EPOCH,
                },
                410,
                "task a was pruned",
            ),
            (Error::Overloaded, 503, "overloaded"),
            (Error::Stopping, 503, "stopping"),
        ] {
            let (given, body) = answer(error).await;
            assert_eq!(given, status, "{body}");
            assert!(body.contains(words), "{body}");
            assert_eq!(body.lines().count(), 1, "{body}");
        }
    }

    #[tokio::test]
    async fn what_is_inside_this_peer_is_not_said() {
        let io = || std::io::Error::other("secret");
        let sql = sqlx::Error::Protocol("SELECT secret FROM secrets".into());
        let task = TaskError::new("failed", "secret");
        for (error, status) in [
            (sql.into(), 503),
            (Error::Database(DatabaseError::new("secret")), 503),
            (Error::Config("/etc/secret".into()), 500),
            (Error::Handlers(vec!["secret".into()]), 500),
            (
                Error::Schema {
                    database: "sqlite:/secret".into(),
                    why: "secret".into(),
                },
                500,
            ),
            (
                Error::Corrupt {
                    what: "secret.secret".into(),
                    why: "secret".into(),
                },
                500,
            ),
            (
                serde_json::from_str::<u8>("\"secret\"").unwrap_err().into(),
                500,
            ),
            (
                Error::Bind {
                    bind: "secret".into(),
                    source: io(),
                },
                500,
            ),
            (
                Error::Task {
                    id: "a".into(),
                    error: Box::new(task),
                },
                500,
            ),
            (Error::Hook(io().into()), 500),
            (
                Error::Io {
                    what: "can't read /secret".into(),
                    source: io(),
                },
                500,
            ),
            (Error::Impatient, 500),
        ] {
            let (given, body) = answer(error).await;
            assert_eq!(given, status, "{body}");
            assert!(!body.contains("secret"), "{body}");
            assert_eq!(body.lines().count(), 1, "{body}");
        }
    }
}
