//! Entries of the audit, in chains in which each row holds the hash of the row before it.
//!
//! `hash = SHA-256(previous hash || row)`. The length of each field precedes it, so different
//! rows never have the same encoding.

use std::{fmt, str::FromStr, sync::Arc};

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

/// The previous hash of the first row.
const START: Digest = Digest([0; 32]);

/// Separates these hashes from those of other data and of other encodings.
const DOMAIN: &[u8] = b"frestq audit 1";

/// A SHA-256, written as hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Digest(pub(crate) [u8; 32]);

impl Digest {
    /// The hash of a message's body, or of an argument.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let invalid = || format!("{text:?} is not a hash of 64 hexadecimal digits");
        let digits: Option<Vec<u8>> = text
            .chars()
            .map(|digit| {
                digit
                    .to_digit(16)
                    .and_then(|value| u8::try_from(value).ok())
            })
            .collect();
        let bytes = digits.ok_or_else(invalid)?;
        let bytes: Vec<u8> = bytes
            .chunks(2)
            .map(|pair| pair.iter().fold(0, |byte, digit| byte * 16 + digit))
            .collect();
        match <[u8; 32]>::try_from(bytes) {
            Ok(bytes) if text.len() == 64 => Ok(Self(bytes)),
            _ => Err(invalid()),
        }
    }
}

/// The name of this peer's own application in the audit.
pub(crate) const APPLICATION: &str = "application";

/// An entry: what was requested, by whom, and the answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) at: Timestamp,
    /// The address of the peer that sent the request; `operator`, `application` or `retention`
    /// for this peer itself.
    pub(crate) peer: Box<str>,
    /// The fingerprint of the connection's certificate; `None` in open mode.
    pub(crate) certificate: Option<Box<str>>,
    /// Empty if no message was sent to a queue.
    pub(crate) queue: Arc<str>,
    pub(crate) action: Arc<str>,
    pub(crate) message: Option<Box<str>>,
    pub(crate) task: Option<Box<str>>,
    /// The hash of the message's body, or of the decision's argument.
    pub(crate) body: Digest,
    pub(crate) answer: Box<str>,
}

impl Entry {
    /// An entry for a decision of this peer itself. It holds the hash of the argument.
    pub(crate) fn decided(at: Timestamp, by: &str, action: &str, argument: &str) -> Self {
        Self {
            at,
            peer: by.into(),
            certificate: None,
            queue: "".into(),
            action: action.into(),
            message: None,
            task: None,
            body: Digest::of(argument.as_bytes()),
            answer: "".into(),
        }
    }

    /// The same entry with this answer.
    pub(crate) fn answered(mut self, answer: &str) -> Self {
        self.answer = answer.into();
        self
    }

    pub(crate) fn hash(&self, previous: Digest, chain: &str, seq: i64) -> Digest {
        let mut hasher = Sha256::new();
        hasher.update(previous.0);
        let mut field = |bytes: &[u8]| {
            hasher.update((bytes.len() as u64).to_be_bytes());
            hasher.update(bytes);
        };
        field(DOMAIN);
        field(chain.as_bytes());
        field(&seq.to_be_bytes());
        field(&self.at.as_microsecond().to_be_bytes());
        field(self.peer.as_bytes());
        for optional in [&self.certificate, &self.message, &self.task] {
            match optional {
                // `None` differs from an empty text.
                None => field(&[]),
                Some(text) => {
                    field(&[1]);
                    field(text.as_bytes());
                }
            }
        }
        field(self.queue.as_bytes());
        field(self.action.as_bytes());
        field(&self.body.0);
        field(self.answer.as_bytes());
        Digest(hasher.finalize().into())
    }
}

/// The head of a chain: its last row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Head {
    /// The number of the last row; 0 before the first one.
    pub(crate) seq: i64,
    pub(crate) hash: Digest,
}

impl Head {
    /// The head of a chain without rows.
    pub(crate) const EMPTY: Self = Self {
        seq: 0,
        hash: START,
    };

    /// The row for this entry after this head.
    pub(crate) fn link(&self, chain: &str, entry: Entry) -> Link {
        let seq = self.seq + 1;
        Link {
            seq,
            hash: entry.hash(self.hash, chain, seq),
            entry,
        }
    }
}

/// A row of a chain.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Link {
    pub(crate) seq: i64,
    pub(crate) entry: Entry,
    pub(crate) hash: Digest,
}

impl Link {
    /// The head of the chain that ends with this row.
    pub(crate) fn head(&self) -> Head {
        Head {
            seq: self.seq,
            hash: self.hash,
        }
    }
}

/// A head with the name of its chain, as `--verify-audit` prints and takes it: `CHAIN:SEQ:HASH`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Anchor {
    pub(crate) chain: String,
    pub(crate) head: Head,
}

impl fmt::Display for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.chain, self.head.seq, self.head.hash)
    }
}

impl FromStr for Anchor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // Split from the end, since the name of a chain may be an address with a port.
        let mut parts = text.rsplitn(3, ':');
        let (Some(hash), Some(seq), Some(chain)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(format!(
                "{text:?} is not of the form CHAIN:SEQ:HASH, which --verify-audit prints"
            ));
        };
        let seq = seq.parse().ok().filter(|seq| *seq > 0);
        Ok(Self {
            chain: chain.to_owned(),
            head: Head {
                seq: seq.ok_or_else(|| format!("{text:?}: SEQ is a row's number, from 1"))?,
                hash: hash.parse()?,
            },
        })
    }
}
