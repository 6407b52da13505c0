//! Posts messages to a peer and says what became of each.

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
    EXTENSIONS, EXTENSIONS_HEADER, INTERNAL_QUEUE, InternalAction, envelope::BatchAnswer,
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

/// The most of an answer that is read for each message in the request.
const LONGEST_ANSWER: usize = 64 * 1024;

/// What the peer made of one message.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reply {
    Accepted,
    /// For good.
    Refused {
        status: u16,
        why: String,
    },
    /// Not now; when to come back, if it said so.
    Later {
        status: u16,
        why: String,
        retry_after: Option<Duration>,
    },
}

/// What became of one request.
#[derive(Debug)]
pub(crate) enum Exchange {
    /// The peer answered: message by message, and whether it shows our extensions.
    Answered {
        replies: Vec<(Arc<OutboxRow>, Reply)>,
        extensions: bool,
    },
    /// The peer does not take a batch, or not one of this size.
    NoBatch {
        status: u16,
        messages: Vec<Arc<OutboxRow>>,
    },
    /// The server has another certificate than the one that these are pinned to.
    NotPinned {
        messages: Vec<Arc<OutboxRow>>,
        why: String,
    },
    /// No answer came.
    Failed {
        messages: Vec<Arc<OutboxRow>>,
        why: String,
    },
}

/// A peer, and the certificate that it must show, where a task wants one.
type Destination = (PeerUrl, Option<Fingerprint>);

/// The HTTP clients, with their kept-alive connections: one for all in open mode, else one for each
/// registered peer, which connects to that peer alone, and one for each pin of its tasks.
pub(crate) struct Client {
    config: DeliveryConfig,
    trust: Arc<Trust>,
    /// Each with the certificates that it was made for.
    clients: Mutex<HashMap<Destination, (Arc<TrustSnapshot>, reqwest::Client)>>,
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

    /// The client that reaches this peer and nobody else.
    fn to(&self, peer: &PeerUrl, pin: Option<Fingerprint>) -> Result<reqwest::Client> {
        let Some(snapshot) = self.trust.snapshot() else {
            return Ok(self.open.clone());
        };
        let member = snapshot.members.by_url(peer);
        let member = member.ok_or_else(|| Error::UnknownPeer(peer.clone()))?;
        let mut clients = self
            .clients
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        // Those of an earlier standing have old certificates, or their peers are gone.
        clients.retain(|_, (made_for, _)| Arc::ptr_eq(made_for, &snapshot));
        let key = (peer.clone(), pin);
        if let Some((_, client)) = clients.get(&key) {
            return Ok(client.clone());
        }
        let builder = tls::client(&snapshot, member, pin)?;
        let builder = match member.private {
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
            .exchange(peer, message.pin, &message.queue, body, LONGEST_ANSWER)
            .await
        {
            Ok((status, headers, answer)) => {
                let reply = judge(status.as_u16(), retry_after(&headers), || words(&answer));
                Exchange::Answered {
                    replies: vec![(message, reply)],
                    extensions: shown(&headers),
                }
            }
            Err(failure) => failure.of(vec![message]),
        }
    }

    /// Posts many messages in one request, `frestq.batch`.
    pub(crate) async fn post_batch(
        &self,
        peer: &PeerUrl,
        own: &PeerUrl,
        messages: Vec<Arc<OutboxRow>>,
    ) -> Exchange {
        let longest = LONGEST_ANSWER + messages.len() * 1024;
        let body = batch_body(own, &messages);
        // All of a request have the same.
        let pin = messages.first().and_then(|message| message.pin);
        let exchange = self.exchange(peer, pin, INTERNAL_QUEUE, body, longest);
        let (status, headers, answer) = match exchange.await {
            Ok(answer) => answer,
            Err(failure) => return failure.of(messages),
        };
        let retry_after = retry_after(&headers);
        let extensions = shown(&headers);
        if status != StatusCode::OK {
            return match judge(status.as_u16(), retry_after, || words(&answer)) {
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
                Some(answer) => judge(answer.status, retry_after, || {
                    answer.message.unwrap_or_default()
                }),
                None => Reply::Later {
                    status: 200,
                    why: "the batch was answered without it".into(),
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

    async fn exchange(
        &self,
        peer: &PeerUrl,
        pin: Option<Fingerprint>,
        queue: &str,
        body: String,
        longest: usize,
    ) -> Result<(StatusCode, HeaderMap, Vec<u8>), Failure> {
        let client = self.to(peer, pin)?;
        let request = client
            .post(peer.queue(queue))
            .header(EXTENSIONS_HEADER, EXTENSIONS)
            .body(body);
        let mut response = request.send().await?;
        let mut answer = Vec::new();
        // What goes beyond the limit is neither read nor needed.
        while let Some(chunk) = response.chunk().await? {
            answer.extend_from_slice(&chunk[..chunk.len().min(longest - answer.len())]);
            if answer.len() >= longest {
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

/// Why there is no answer.
struct Failure {
    not_pinned: bool,
    why: String,
}

impl Failure {
    fn of(self, messages: Vec<Arc<OutboxRow>>) -> Exchange {
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
            not_pinned: tls::missed_the_pin(&error),
            why: chain(error),
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
        // Before the other side does.
        .pool_idle_timeout(IDLE / 2)
        .pool_max_idle_per_host(config.parallel)
        .tcp_nodelay(true)
        .no_proxy()
        .build()
        .map_err(|e| Error::Config(format!("the HTTP client can't be made: {e}")))
}

/// The error with its causes, without the URL, which the reader knows.
fn chain(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn shown(headers: &HeaderMap) -> bool {
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

/// The contract's rule 8: which answers are for good and which for now.
fn judge(status: u16, retry_after: Option<Duration>, why: impl FnOnce() -> String) -> Reply {
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

/// What the answer says, for people: its `message`, or its text cut short.
fn words(answer: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Refusal {
        message: String,
    }
    match serde_json::from_slice::<Refusal>(answer) {
        Ok(refusal) => refusal.message.chars().take(500).collect(),
        Err(_) => String::from_utf8_lossy(answer)
            .chars()
            .filter(|c| !c.is_control())
            .take(200)
            .collect(),
    }
}

/// The bodies are frozen JSON already, so they are put together as text.
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
    // Text and raw JSON always serialize.
    serde_json::to_string(&batch).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_for_good_and_everything_else_is_for_now() {
        let kind = |status| match judge(status, None, String::new) {
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
    fn retry_after_is_obeyed_up_to_an_hour() {
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
    fn an_answer_is_quoted_in_short() {
        assert_eq!(words(br#"{"message":"no such action"}"#), "no such action");
        assert_eq!(words(b"<html>\n\x00oops").as_str(), "<html>oops");
        assert!(words(&[b'x'; 5000]).len() <= 200);
    }
}
