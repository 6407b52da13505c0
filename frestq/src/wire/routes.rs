//! The HTTP side of the inbox: `POST /api/queues/{queue}`, with and without the last slash.

use axum::{
    Json, Router,
    body::{Bytes, HttpBody},
    extract::{ConnectInfo, DefaultBodyLimit, FromRequest, Path, Request, State},
    http::{
        HeaderMap, HeaderName, HeaderValue, StatusCode,
        header::{ORIGIN, RETRY_AFTER},
    },
    response::{IntoResponse, Response as HttpResponse},
    routing::post,
};
use serde_json::json;
use tokio::time::timeout;

use super::{EXTENSIONS, EXTENSIONS_HEADER, caller::Caller, shows_extensions};
use crate::{
    inbox::{self, Refusal, Response},
    peer::Frestq,
};

/// What an overloaded peer asks for, in seconds.
const COME_BACK_IN: u64 = 2;

/// The routes of RESTQP.
pub(crate) fn routes(body_limit: usize) -> Router<Frestq> {
    Router::new()
        .route("/api/queues/{queue}", post(receive))
        .route("/api/queues/{queue}/", post(receive))
        .layer(DefaultBodyLimit::max(body_limit))
        .layer(axum::middleware::map_response(show_extensions))
}

async fn receive(
    State(peer): State<Frestq>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Path(queue): Path<String>,
    headers: HeaderMap,
    request: Request,
) -> HttpResponse {
    if headers.contains_key(ORIGIN) {
        // A page in somebody's browser on this machine is on the loopback too, but is no peer.
        return refuse(
            StatusCode::FORBIDDEN,
            "messages come from peers, not from web pages",
        );
    }
    // Of who may not come in, no body is read.
    let guest = match inbox::identify(&peer, &caller, &headers) {
        Ok(guest) => guest,
        Err(refusal) => return refused(&refusal),
    };
    let config = peer.config();
    if request.body().size_hint().lower() > config.body_limit as u64 {
        // It says so itself, and need not come.
        return refuse(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large");
    }
    let patience = config.limits.body_timeout;
    let body = match timeout(patience, Bytes::from_request(request, &peer)).await {
        Ok(Ok(body)) => body,
        Err(_) => return refuse(StatusCode::REQUEST_TIMEOUT, "the body took too long"),
        Ok(Err(rejection)) => return refuse(rejection.status(), &rejection.body_text()),
    };
    let guest = match inbox::identify_again(&peer, &caller, &headers, guest) {
        Ok(guest) => guest,
        Err(refusal) => return refused(&refusal),
    };
    let shown = headers
        .get(EXTENSIONS_HEADER)
        .and_then(|value| value.to_str().ok());
    match inbox::receive(&peer, &guest, &queue, &body, shows_extensions(shown)).await {
        Response::Accepted => StatusCode::OK.into_response(),
        Response::Batch(answers) => Json(answers).into_response(),
        Response::Refused(refusal) => refused(&refusal),
    }
}

fn refused(Refusal { status, message }: &Refusal) -> HttpResponse {
    let status = StatusCode::from_u16(*status);
    refuse(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), message)
}

fn refuse(status: StatusCode, message: &str) -> HttpResponse {
    let mut response = (status, Json(json!({ "message": message }))).into_response();
    let for_now = [
        StatusCode::SERVICE_UNAVAILABLE,
        StatusCode::TOO_MANY_REQUESTS,
    ];
    if for_now.contains(&status) {
        response
            .headers_mut()
            .insert(RETRY_AFTER, COME_BACK_IN.into());
    }
    response
}

async fn show_extensions(mut response: HttpResponse) -> HttpResponse {
    let (name, value) = (
        HeaderName::from_static(EXTENSIONS_HEADER),
        HeaderValue::from_static(EXTENSIONS),
    );
    response.headers_mut().insert(name, value);
    response
}
