//! Entries of the audit: who asked for what, in chains in which each row holds the hash of the row
//! before it.
//!
//! `hash = SHA-256(previous hash || row)`, where the length of each field precedes it, so that no two
//! rows are the same bytes.

use std::{fmt, str::FromStr, sync::Arc};

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

/// What the hash of the first row begins with in place of a previous hash.
const START: Digest = Digest([0; 32]);

/// Tells these hashes from those of anything else, and from those of another encoding.
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
        let wrong = || format!("{text:?} is not a hash, which has 64 hexadecimal digits");
        let digits: Option<Vec<u8>> = text
            .chars()
            .map(|digit| {
                digit
                    .to_digit(16)
                    .and_then(|value| u8::try_from(value).ok())
            })
            .collect();
        let bytes = digits.ok_or_else(wrong)?;
        let bytes: Vec<u8> = bytes
            .chunks(2)
            .map(|pair| pair.iter().fold(0, |byte, digit| byte * 16 + digit))
            .collect();
        match <[u8; 32]>::try_from(bytes) {
            Ok(bytes) if text.len() == 64 => Ok(Self(bytes)),
            _ => Err(wrong()),
        }
    }
}

/// Who asks, where it is this peer's own code.
pub(crate) const APPLICATION: &str = "application";

/// What was asked, by whom, and what came of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) at: Timestamp,
    /// The address of the peer that asked; `operator`, `application` or `retention` where it was this peer itself.
    pub(crate) peer: Box<str>,
    /// The fingerprint of the certificate that the connection has shown; none in open mode.
    pub(crate) certificate: Option<Box<str>>,
    /// Empty where no message was sent to a queue.
    pub(crate) queue: Arc<str>,
    pub(crate) action: Arc<str>,
    pub(crate) message: Option<Box<str>>,
    pub(crate) task: Option<Box<str>>,
    /// The hash of the message's body, or of the decision's argument.
    pub(crate) body: Digest,
    pub(crate) answer: Box<str>,
}

impl Entry {
    /// What this peer's own operator or configuration has decided; its argument appears by its hash.
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

    /// The same, with what was answered.
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
                // Nothing is not the empty text.
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

/// How far a chain goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Head {
    /// The number of the last row; 0 before the first one.
    pub(crate) seq: i64,
    pub(crate) hash: Digest,
}

impl Head {
    /// Of a chain without rows.
    pub(crate) const EMPTY: Self = Self {
        seq: 0,
        hash: START,
    };

    /// The row that holds this entry behind this head.
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
    /// The head of a chain that ends with it.
    pub(crate) fn head(&self) -> Head {
        Head {
            seq: self.seq,
            hash: self.hash,
        }
    }
}

/// A head as `--verify-audit` prints it and takes it: `CHAIN:SEQ:HASH`.
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
        // From the end, since the name of a chain may be an address with its port.
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
