//! Identifiers, each with a type of its own, so that the compiler distinguishes them.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

/// The id of a task: the same on the peer that sent it and on the peer that runs it.
///
/// This peer generates time-ordered UUIDs. Other peers may send any text of up to 128 characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TaskId(Arc<str>);

/// The id of one message, chosen by its sender.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MessageId(Arc<str>);

macro_rules! text_id {
    ($name:ident) => {
        impl $name {
            /// A new id, unique and ordered by time.
            #[cfg(feature = "server")]
            pub(crate) fn generate() -> Self {
                Self(uuid::Uuid::now_v7().to_string().into())
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }

        impl FromStr for $name {
            type Err = std::convert::Infallible;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Ok(text.into())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id!(TaskId);
text_id!(MessageId);

/// The row of a peer in this peer's database. Small, since every task and message has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PeerId(pub(crate) i64);

impl PeerId {
    /// This peer itself. Its row is the first one, created with the database.
    pub(crate) const SELF: PeerId = PeerId(0);
}

/// A serving process. On Postgres, several processes may serve one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct NodeId(pub(crate) i64);

/// The root queues URL of a peer: its address, and its name on the wire.
///
/// It is normalized, without the trailing slash, so that equal addresses are equal values.
///
/// ```
/// let url: frestq::PeerUrl = "HTTP://127.0.0.1:5001/api/queues/".parse()?;
/// assert_eq!(url.as_str(), "http://127.0.0.1:5001/api/queues");
/// # Ok::<(), frestq::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct PeerUrl(Arc<str>);

impl PeerUrl {
    /// The URL as text, without a trailing slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether connections to it are encrypted.
    pub(crate) fn is_https(&self) -> bool {
        self.0.starts_with("https://")
    }

    /// The host name, as in a certificate.
    pub(crate) fn host(&self) -> String {
        let url = url::Url::parse(&self.0).ok();
        let host = url.as_ref().and_then(url::Url::host_str);
        let host = host.unwrap_or_default();
        host.trim_matches(['[', ']']).to_owned()
    }

    /// The URL to which messages for `queue` are posted. The queue's name is one segment of the
    /// path, percent-encoded.
    pub(crate) fn queue(&self, queue: &str) -> String {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
        let mut url = format!("{}/", self.0);
        for byte in queue.bytes() {
            if plain(byte) {
                url.push(char::from(byte));
            } else {
                url.push_str(&format!("%{byte:02X}"));
            }
        }
        url.push('/');
        url
    }

    /// Makes it from text in the database, which is already normalized.
    pub(crate) fn trusted(text: String) -> Self {
        Self(text.into())
    }
}

/// The error for a text that is not a root queues URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{url:?} is not a root queues URL: {why}; expected something like https://auth1.example.org:5000/api/queues"
)]
#[non_exhaustive]
pub struct InvalidPeerUrl {
    /// The beginning of the text, up to 120 characters.
    pub url: String,
    /// What is wrong with it.
    pub why: String,
}

/// Lets a task be addressed by a `PeerUrl`, as in `.to(task.here())`.
impl AsRef<str> for PeerUrl {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl FromStr for PeerUrl {
    type Err = InvalidPeerUrl;

    /// Reads a root queues URL.
    ///
    /// # Errors
    ///
    /// [`InvalidPeerUrl`] if the text is not an absolute `http` or `https` URL with a host, if it
    /// has a query, a fragment or credentials, or if it is longer than 1,024 characters.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let reject = |why: &str| InvalidPeerUrl {
            url: text.chars().take(120).collect(),
            why: why.into(),
        };
        if text.chars().count() > 1024 {
            return Err(reject("it is longer than 1024 characters"));
        }
        let url = url::Url::parse(text).map_err(|e| reject(&e.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(reject("the scheme must be http or https"));
        }
        if url.host_str().is_none() {
            return Err(reject("it names no host"));
        }
        if url.query().is_some()
            || url.fragment().is_some()
            || !url.username().is_empty()
            || url.password().is_some()
        {
            return Err(reject("it may have no query, fragment or credentials"));
        }
        Ok(Self(url.as_str().trim_end_matches('/').into()))
    }
}

impl fmt::Display for PeerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for PeerUrl {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_queue_is_one_segment_of_the_path() {
        let peer: PeerUrl = "http://127.0.0.1:5001/api/queues/".parse().unwrap();
        assert_eq!(
            peer.queue("say_queue"),
            "http://127.0.0.1:5001/api/queues/say_queue/"
        );
        for name in ["a/b", "what?", "a#b", "100%", "internal.frestq", "ñ q"] {
            let url = url::Url::parse(&peer.queue(name)).unwrap();
            let segments: Vec<_> = url.path_segments().unwrap().collect();
            assert_eq!(segments.len(), 4, "{url}");
            let read = percent_decoded(segments[2]);
            assert_eq!((read.as_str(), url.query()), (name, None));
        }
    }

    fn percent_decoded(segment: &str) -> String {
        let mut bytes = Vec::new();
        let mut rest = segment.bytes();
        while let Some(byte) = rest.next() {
            bytes.push(match byte {
                b'%' => {
                    let digits = [rest.next().unwrap(), rest.next().unwrap()];
                    u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
                }
                other => other,
            });
        }
        String::from_utf8(bytes).unwrap()
    }
}
