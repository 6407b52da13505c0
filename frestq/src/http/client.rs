//! The HTTP client: posts messages to a peer and returns the reply to each.

use std::{
    collections::HashMap,
    error::Error as _,
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::Timestamp;
use reqwest::{
    StatusCode,
    header::{HeaderMap, RETRY_AFTER},
};
use serde_json::value::RawValue;

use super::{resolve, server::IDLE, tls};
use crate::protocol::{
    EXTENSIONS, EXTENSIONS_HEADER, INTERNAL_QUEUE, InternalAction, internal_data::BatchAnswer,
    shows_extensions,
};
use crate::{
    config::DeliveryConfig,
    model::{
        Fingerprint, MessageId, OutboxRow, PeerUrl,
        backoff::LONGEST_RETRY_AFTER,
        error::{Error, Result},
    },
    security::{Trust, TrustSnapshot},
};

/// The number of bytes of a response that are read.
const MAX_RESPONSE: usize = 64 * 1024;

/// The peer's reply to one message.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reply {
    /// The peer has stored it, or had before.
    Accepted,
    /// Permanently refused.
    Refused { status: u16, why: String },
    /// Temporarily refused, with the wait of `Retry-After` if the peer sent it.
    Later {
        status: u16,
        why: String,
        retry_after: Option<Duration>,
    },
}

/// The result of one request.
#[derive(Debug)]
pub(crate) enum Exchange {
    /// The peer answered: its replies, and whether it shows that it supports the extensions.
    Answered {
        replies: Vec<(Arc<OutboxRow>, Reply)>,
        extensions: bool,
    },
    /// The peer does not accept batches, or not one of this size.
    NoBatch {
        status: u16,
        messages: Vec<Arc<OutboxRow>>,
    },
    /// The server's certificate is not the one that the tasks of these messages are pinned to.
    NotPinned {
        messages: Vec<Arc<OutboxRow>>,
        why: String,
    },
    /// There was no response.
    Failed {
        messages: Vec<Arc<OutboxRow>>,
        why: String,
    },
}

/// A peer, and the certificate to which a task is pinned, if it is.
type Destination = (PeerUrl, Option<Fingerprint>);

/// The HTTP clients, with their connection pools. In open mode one client serves all peers;
/// otherwise each registered peer, and each pin of its tasks, has a client that connects to that
/// peer only.
pub(crate) struct Client {
    config: DeliveryConfig,
    trust: Arc<Trust>,
    /// Each client with the snapshot for which it was built.
    clients: Mutex<HashMap<Destination, (Arc<TrustSnapshot>, reqwest::Client)>>,
    /// The client of open mode.
    open: reqwest::Client,
}

impl Client {
    pub(crate) fn new(config: &DeliveryConfig, trust: Arc<Trust>) -> Result<Self> {
        Ok(Self {
            open: build(config, reqwest::Client::builder())?,
            config: config.clone(),
            trust,
            clients: Mutex::default(),
        })
    }

    /// The client that connects to this peer only.
    fn client_for(&self, peer: &PeerUrl, pin: Option<Fingerprint>) -> Result<reqwest::Client> {
        let Some(snapshot) = self.trust.snapshot() else {
            return Ok(self.open.clone());
        };
        let registered = snapshot.peers.by_url(peer);
        let registered = registered.ok_or_else(|| Error::UnknownPeer(peer.clone()))?;
        let mut clients = self
            .clients
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        // Clients of an earlier snapshot have outdated certificates or peers.
        clients.retain(|_, (built_for, _)| Arc::ptr_eq(built_for, &snapshot));
        let key = (peer.clone(), pin);
        if let Some((_, client)) = clients.get(&key) {
            return Ok(client.clone());
        }
        let builder = tls::client(&snapshot, registered, pin)?;
        let builder = match registered.private {
            true => builder,
            false => builder.dns_resolver(resolve::public()),
        };
        let client = build(&self.config, builder)?;
        clients.insert(key, (snapshot.clone(), client.clone()));
        Ok(client)
    }

    /// Posts one message.
    pub(crate) async fn post(&self, peer: &PeerUrl, message: Arc<OutboxRow>) -> Exchange {
        let body = message.body.to_string();
        match self
            .exchange(peer, message.pin, &message.queue, body, MAX_RESPONSE)
            .await
        {
            Ok((status, headers, answer)) => {
                let reply = classify(status.as_u16(), retry_after(&headers), || {
                    error_text(&answer)
                });
                Exchange::Answered {
                    replies: vec![(message, reply)],
                    extensions: supports_extensions(&headers),
                }
            }
            Err(failure) => failure.into_exchange(vec![message]),
        }
    }

    /// Posts many messages in one request, `frestq.batch`.
    pub(crate) async fn post_batch(
        &self,
        peer: &PeerUrl,
        own: &PeerUrl,
        messages: Vec<Arc<OutboxRow>>,
    ) -> Exchange {
        let limit = MAX_RESPONSE + messages.len() * 1024;
        let body = batch_body(own, &messages);
        // All messages of a request have the same pin.
        let pin = messages.first().and_then(|message| message.pin);
        let exchange = self.exchange(peer, pin, INTERNAL_QUEUE, body, limit);
        let (status, headers, answer) = match exchange.await {
            Ok(answer) => answer,
            Err(failure) => return failure.into_exchange(messages),
        };
        let retry_after = retry_after(&headers);
        let extensions = supports_extensions(&headers);
        if status != StatusCode::OK {
            return match classify(status.as_u16(), retry_after, || error_text(&answer)) {
                Reply::Refused { status, .. } => Exchange::NoBatch { status, messages },
                reply => {
                    let replies = messages
                        .into_iter()
                        .map(|message| (message, reply.clone()))
                        .collect();
                    Exchange::Answered {
                        replies,
                        extensions,
                    }
                }
            };
        }
        let Ok(answers) = serde_json::from_slice::<Vec<BatchAnswer>>(&answer) else {
            return Exchange::NoBatch {
                status: 200,
                messages,
            };
        };
        let mut answers: HashMap<String, BatchAnswer> = answers
            .into_iter()
            .map(|answer| (answer.message_id.clone(), answer))
            .collect();
        let replies = messages.into_iter().map(|message| {
            let reply = match answers.remove(message.message.as_str()) {
                Some(answer) => classify(answer.status, retry_after, || {
                    answer.message.unwrap_or_default()
                }),
                None => Reply::Later {
                    status: 200,
                    why: "the answer to the batch does not contain this message".into(),
                    retry_after: None,
                },
            };
            (message, reply)
        });
        Exchange::Answered {
            replies: replies.collect(),
            extensions,
        }
    }

    /// Posts a body; returns the status, the headers and up to `limit` bytes of the response.
    async fn exchange(
        &self,
        peer: &PeerUrl,
        pin: Option<Fingerprint>,
        queue: &str,
        body: String,
        limit: usize,
    ) -> Result<(StatusCode, HeaderMap, Vec<u8>), Failure> {
        let client = self.client_for(peer, pin)?;
        let request = client
            .post(peer.queue(queue))
            .header(EXTENSIONS_HEADER, EXTENSIONS)
            .body(body);
        let mut response = request.send().await?;
        let mut answer = Vec::new();
        // The rest beyond the limit is not needed.
        while let Some(chunk) = response.chunk().await? {
            answer.extend_from_slice(&chunk[..chunk.len().min(limit - answer.len())]);
            if answer.len() >= limit {
                break;
            }
        }
        Ok((
            response.status(),
            std::mem::take(response.headers_mut()),
            answer,
        ))
    }
}

/// Why there was no response.
struct Failure {
    not_pinned: bool,
    why: String,
}

impl Failure {
    fn into_exchange(self, messages: Vec<Arc<OutboxRow>>) -> Exchange {
        let why = self.why;
        match self.not_pinned {
            true => Exchange::NotPinned { messages, why },
            false => Exchange::Failed { messages, why },
        }
    }
}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        Self {
            not_pinned: tls::is_pin_mismatch(&error),
            why: error_chain(error),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self {
            not_pinned: false,
            why: error.to_string(),
        }
    }
}

fn build(config: &DeliveryConfig, builder: reqwest::ClientBuilder) -> Result<reqwest::Client> {
    builder
        .user_agent(concat!("frestq/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(config.connect_timeout)
        .timeout(config.timeout)
        .redirect(reqwest::redirect::Policy::none())
        // Shorter than the server's timeout, so that the client closes idle connections first.
        .pool_idle_timeout(IDLE / 2)
        .pool_max_idle_per_host(config.parallel)
        .tcp_nodelay(true)
        .no_proxy()
        .build()
        .map_err(|e| Error::Config(format!("the HTTP client can't be made: {e}")))
}

/// The error with its causes, without the URL, which is known from the context.
fn error_chain(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn supports_extensions(headers: &HeaderMap) -> bool {
    shows_extensions(
        headers
            .get(EXTENSIONS_HEADER)
            .and_then(|value| value.to_str().ok()),
    )
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
            Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or_default()
        }
    };
    Some(wait.min(LONGEST_RETRY_AFTER))
}

/// Classifies a status as accepted, permanently refused, or temporarily refused.
fn classify(status: u16, retry_after: Option<Duration>, why: impl FnOnce() -> String) -> Reply {
    match status {
        200..=299 => Reply::Accepted,
        400 | 403 | 404 | 409 | 413 | 422 => Reply::Refused { status, why: why() },
        300..=399 => Reply::Later {
            status,
            why: "redirects are not followed".into(),
            retry_after,
        },
        _ => Reply::Later {
            status,
            why: why(),
            retry_after,
        },
    }
}

/// The error text of a response: its `message`, or its body, both truncated.
fn error_text(answer: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Body {
        message: String,
    }
    match serde_json::from_slice::<Body>(answer) {
        Ok(body) => body.message.chars().take(500).collect(),
        Err(_) => String::from_utf8_lossy(answer)
            .chars()
            .filter(|c| !c.is_control())
            .take(200)
            .collect(),
    }
}

/// The body of a batch. The messages are stored as JSON text, which is inserted unchanged.
fn batch_body(own: &PeerUrl, messages: &[Arc<OutboxRow>]) -> String {
    #[derive(serde::Serialize)]
    struct Entry<'a> {
        queue: &'a str,
        message: &'a RawValue,
    }
    #[derive(serde::Serialize)]
    struct Batch<'a> {
        message_id: MessageId,
        action: &'a str,
        sender_url: &'a PeerUrl,
        data: Vec<Entry<'a>>,
    }
    let entries = messages.iter().filter_map(|message| {
        let message_body = serde_json::from_str::<&RawValue>(&message.body).ok()?;
        Some(Entry {
            queue: &message.queue,
            message: message_body,
        })
    });
    let batch = Batch {
        message_id: MessageId::generate(),
        action: InternalAction::Batch.as_str(),
        sender_url: own,
        data: entries.collect(),
    };
    // Strings and raw JSON always serialize.
    serde_json::to_string(&batch).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permanent_refusals_are_distinguished_from_temporary_ones() {
        let kind = |status| match classify(status, None, String::new) {
            Reply::Accepted => "accepted",
            Reply::Refused { .. } => "refused",
            Reply::Later { .. } => "later",
        };
        assert_eq!([200, 204].map(kind), ["accepted"; 2]);
        assert_eq!([400, 403, 404, 409, 413, 422].map(kind), ["refused"; 6]);
        assert_eq!(
            [301, 307, 401, 405, 408, 418, 425, 429, 500, 502, 503, 504].map(kind),
            ["later"; 12]
        );
    }

    #[test]
    fn retry_after_is_respected_up_to_an_hour() {
        let header = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            retry_after(&headers)
        };
        assert_eq!(header("7"), Some(Duration::from_secs(7)));
        assert_eq!(header("999999"), Some(Duration::from_secs(3600)));
        assert_eq!(
            header("Wed, 21 Oct 2015 07:28:00 GMT"),
            Some(Duration::ZERO)
        );
        assert_eq!(header("soon"), None);
    }

    #[test]
    fn the_text_of_an_answer_is_truncated() {
        assert_eq!(
            error_text(br#"{"message":"no such action"}"#),
            "no such action"
        );
        assert_eq!(error_text(b"<html>\n\x00oops").as_str(), "<html>oops");
        assert!(error_text(&[b'x'; 5000]).len() <= 200);
    }
}
