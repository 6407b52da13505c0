//! The HTTP side of the inbox: `POST /api/queues/{queue}`, with and without the last slash.

use std::{net::SocketAddr, sync::Arc};

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

use super::{
    authenticate::{identify, identify_again},
    receive::receive,
    response::{Rejection, Response},
};
use crate::{
    http::connection::Connection,
    protocol::{EXTENSIONS, EXTENSIONS_HEADER, shows_extensions},
    services::Services,
};

/// What an overloaded peer asks for, in seconds.
const COME_BACK_IN: u64 = 2;

/// The routes of RESTQP.
pub(crate) fn routes(services: &Arc<Services>) -> Router {
    Router::new()
        .route("/api/queues/{queue}", post(accept))
        .route("/api/queues/{queue}/", post(accept))
        .layer(DefaultBodyLimit::max(services.config.body_limit))
        .layer(axum::middleware::map_response(show_extensions))
        .with_state(services.clone())
}

async fn accept(
    State(services): State<Arc<Services>>,
    Path(queue): Path<String>,
    headers: HeaderMap,
    request: Request,
) -> HttpResponse {
    let Some(caller) = connection(&request) else {
        tracing::error!(
            "the router of this peer is served without connection info; use into_make_service_with_connect_info::<SocketAddr>()"
        );
        return refuse(
            StatusCode::INTERNAL_SERVER_ERROR,
            "this peer is not set up to accept messages",
        );
    };
    if headers.contains_key(ORIGIN) {
        // A page in somebody's browser on this machine is on the loopback too, but is no peer.
        return refuse(
            StatusCode::FORBIDDEN,
            "messages come from peers, not from web pages",
        );
    }
    // Of who may not come in, no body is read.
    let guest = match identify(&services, &caller, &headers) {
        Ok(guest) => guest,
        Err(rejection) => return refused(&rejection),
    };
    let config = &services.config;
    if request.body().size_hint().lower() > config.body_limit as u64 {
        // It says so itself, and need not come.
        return refuse(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large");
    }
    let patience = config.limits.body_timeout;
    let body = match timeout(patience, Bytes::from_request(request, &services)).await {
        Ok(Ok(body)) => body,
        Err(_) => return refuse(StatusCode::REQUEST_TIMEOUT, "the body took too long"),
        Ok(Err(rejection)) => return refuse(rejection.status(), &rejection.body_text()),
    };
    let guest = match identify_again(&services, &caller, &headers, guest) {
        Ok(guest) => guest,
        Err(rejection) => return refused(&rejection),
    };
    let shown = headers
        .get(EXTENSIONS_HEADER)
        .and_then(|value| value.to_str().ok());
    match receive(&services, &guest, &queue, &body, shows_extensions(shown)).await {
        Response::Accepted => StatusCode::OK.into_response(),
        Response::Batch(answers) => Json(answers).into_response(),
        Response::Rejected(rejection) => refused(&rejection),
    }
}

/// Who is at the other end, as our own listener or the one of an embedding application says.
fn connection(request: &Request) -> Option<Connection> {
    let extensions = request.extensions();
    if let Some(ConnectInfo(connection)) = extensions.get::<ConnectInfo<Connection>>() {
        return Some(connection.clone());
    }
    let ConnectInfo(address) = extensions.get::<ConnectInfo<SocketAddr>>()?;
    Some(Connection::at(address.ip()))
}

fn refused(Rejection { status, message }: &Rejection) -> HttpResponse {
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
