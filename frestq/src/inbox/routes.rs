//! The HTTP routes of the inbox: `POST /api/queues/{queue}`, with and without a trailing slash.

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
    authenticate::{authenticate, authenticate_again},
    receive::receive,
    response::{Rejection, Response},
};
use crate::{
    http::connection::Connection,
    protocol::{EXTENSIONS, EXTENSIONS_HEADER, shows_extensions},
    services::Services,
};

/// The `Retry-After` of responses with 429 and 503, in seconds.
const RETRY_AFTER_SECONDS: u64 = 2;

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
    let Some(connection) = connection(&request) else {
        tracing::error!(
            target: "frestq::http",
            "the peer's router is served without connection info; use into_make_service_with_connect_info::<SocketAddr>()"
        );
        return reject(
            StatusCode::INTERNAL_SERVER_ERROR,
            "this peer is not configured to accept messages",
        );
    };
    if headers.contains_key(ORIGIN) {
        // A web page in a browser on this machine is on the loopback too, but is not a peer.
        return reject(
            StatusCode::FORBIDDEN,
            "messages are accepted from peers, not from web pages",
        );
    }
    // Authenticated before the body is read.
    let authenticated = match authenticate(&services, &connection, &headers) {
        Ok(authenticated) => authenticated,
        Err(rejection) => return rejected(&rejection),
    };
    let config = &services.config;
    if request.body().size_hint().lower() > config.body_limit as u64 {
        // Its `Content-Length` says so; it need not be read.
        return reject(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large");
    }
    let body_timeout = config.limits.body_timeout;
    let body = match timeout(body_timeout, Bytes::from_request(request, &services)).await {
        Ok(Ok(body)) => body,
        Err(_) => {
            return reject(
                StatusCode::REQUEST_TIMEOUT,
                "the body did not arrive in time",
            );
        }
        Ok(Err(rejection)) => return reject(rejection.status(), &rejection.body_text()),
    };
    let authenticated = match authenticate_again(&services, &connection, &headers, authenticated) {
        Ok(authenticated) => authenticated,
        Err(rejection) => return rejected(&rejection),
    };
    let shown = headers
        .get(EXTENSIONS_HEADER)
        .and_then(|value| value.to_str().ok());
    match receive(
        &services,
        &authenticated,
        &queue,
        &body,
        shows_extensions(shown),
    )
    .await
    {
        Response::Accepted => StatusCode::OK.into_response(),
        Response::Batch(answers) => Json(answers).into_response(),
        Response::Rejected(rejection) => rejected(&rejection),
    }
}

/// The connection, from this peer's listener or that of an embedding application.
fn connection(request: &Request) -> Option<Connection> {
    let extensions = request.extensions();
    if let Some(ConnectInfo(connection)) = extensions.get::<ConnectInfo<Connection>>() {
        return Some(connection.clone());
    }
    let ConnectInfo(address) = extensions.get::<ConnectInfo<SocketAddr>>()?;
    Some(Connection::at(address.ip()))
}

fn rejected(Rejection { status, message }: &Rejection) -> HttpResponse {
    let status = StatusCode::from_u16(*status);
    reject(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), message)
}

fn reject(status: StatusCode, message: &str) -> HttpResponse {
    let mut response = (status, Json(json!({ "message": message }))).into_response();
    let temporary = [
        StatusCode::SERVICE_UNAVAILABLE,
        StatusCode::TOO_MANY_REQUESTS,
    ];
    if temporary.contains(&status) {
        response
            .headers_mut()
            .insert(RETRY_AFTER, RETRY_AFTER_SECONDS.into());
    }
    response
}

/// Adds the header that shows the supported extensions.
async fn show_extensions(mut response: HttpResponse) -> HttpResponse {
    let (name, value) = (
        HeaderName::from_static(EXTENSIONS_HEADER),
        HeaderValue::from_static(EXTENSIONS),
    );
    response.headers_mut().insert(name, value);
    response
}
