//! The audit's arithmetic: who asked for what, in chains in which each row holds the hash of the one
//! before it.
//!
//! `hash = SHA-256(previous hash || row)`, where every field of the row is preceded by its length, so
//! that no two rows are the same bytes. So a row that was changed, removed or moved shows, and with
//! the head kept apart, one that was cut off at the end too. What a chain can't show is that all of it
//! was made anew, for which somebody else must hold an earlier head: an [`Anchor`].

use std::{cmp::Ordering, fmt, str::FromStr, sync::Arc};

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

    fn hash(&self, previous: Digest, chain: &str, seq: i64) -> Digest {
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

/// What is wrong with a chain.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fault {
    /// These are not there, and later ones are.
    Missing(i64, i64),
    /// It has a number that none of ours has.
    Foreign(i64),
    /// It does not follow from the one before it.
    Altered(i64),
    /// These are not there, and the head says that they were.
    CutOff(i64, i64),
    /// These are there, and the head does not know of them.
    Beyond(i64, i64),
    /// The head is not that of the last row.
    Unheaded(i64),
    /// At this place there was another row earlier, by what somebody has kept.
    Rewritten(i64),
    /// It once went as far as this.
    Shortened(i64, i64),
    /// There is no such chain any more.
    Gone,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = |from: &i64, to: &i64| match from == to {
            true => format!("row {from} is"),
            false => format!("rows {from} to {to} are"),
        };
        match self {
            Fault::Missing(from, to) => write!(f, "{} missing", rows(from, to)),
            Fault::Foreign(seq) => {
                write!(f, "row {seq} was never written: rows are numbered from 1")
            }
            Fault::Altered(seq) => write!(
                f,
                "row {seq} is not what was written there: it was changed, or put in another one's place"
            ),
            Fault::CutOff(from, to) => write!(f, "{} cut off at the end", rows(from, to)),
            Fault::Beyond(from, to) => write!(
                f,
                "{} beyond the head, which was set back, or they were added",
                rows(from, to)
            ),
            Fault::Unheaded(seq) => write!(
                f,
                "row {seq}, the last one, is not the one that the head stands for"
            ),
            Fault::Rewritten(seq) => {
                write!(f, "row {seq} is not the one that the given head stands for")
            }
            Fault::Shortened(seq, last) => write!(
                f,
                "it ends with row {last}, and the given head stands for row {seq}"
            ),
            Fault::Gone => f.write_str("there is no such chain here"),
        }
    }
}

/// Goes along a chain from its first row.
#[derive(Debug)]
pub(crate) struct Walk<'a> {
    chain: &'a str,
    at: Head,
    /// Earlier heads that the chain must contain, in order.
    anchors: Vec<Head>,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(chain: &'a str, mut anchors: Vec<Head>) -> Self {
        anchors.sort_by_key(|anchor| anchor.seq);
        Self {
            chain,
            at: Head::EMPTY,
            anchors,
        }
    }

    /// Behind which number the next row is to be looked for; at first, behind whatever there can be.
    pub(crate) fn after(&self) -> i64 {
        match self.at.seq {
            0 => i64::MIN,
            seq => seq,
        }
    }

    /// Takes the next row.
    pub(crate) fn step(&mut self, link: &Link) -> Result<(), Fault> {
        let expected = self.at.seq + 1;
        match link.seq.cmp(&expected) {
            Ordering::Less => return Err(Fault::Foreign(link.seq)),
            Ordering::Greater => return Err(Fault::Missing(expected, link.seq - 1)),
            Ordering::Equal => {}
        }
        if link.entry.hash(self.at.hash, self.chain, link.seq) != link.hash {
            return Err(Fault::Altered(link.seq));
        }
        self.at = link.head();
        let mut here = self.anchors.iter().filter(|anchor| anchor.seq == link.seq);
        match here.any(|anchor| anchor.hash != link.hash) {
            true => Err(Fault::Rewritten(link.seq)),
            false => Ok(()),
        }
    }

    /// Compares where it ends with the head that is kept apart.
    pub(crate) fn end(self, head: Head) -> Result<Head, Fault> {
        if self.at.seq < head.seq {
            return Err(Fault::CutOff(self.at.seq + 1, head.seq));
        }
        if self.at != head {
            return Err(Fault::Unheaded(self.at.seq));
        }
        match self.anchors.last() {
            Some(anchor) if anchor.seq > head.seq => Err(Fault::Shortened(anchor.seq, head.seq)),
            _ => Ok(head),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(n: i64) -> Entry {
        Entry {
            at: Timestamp::from_second(1_800_000_000 + n).unwrap(),
            peer: "https://b.example:5000/api/queues".into(),
            certificate: Some("sha256:00".into()),
            queue: "say_queue".into(),
            action: "hello_world".into(),
            message: Some(format!("m{n}").into()),
            task: Some(format!("t{n}").into()),
            body: Digest::of(b"{}"),
            answer: "200".into(),
        }
    }

    fn chain(length: i64) -> Vec<Link> {
        let mut head = Head::EMPTY;
        let links = (1..=length).map(|n| {
            let link = head.link("one", entry(n));
            head = link.head();
            link
        });
        links.collect()
    }

    fn walk(links: &[Link], head: Head, anchors: Vec<Head>) -> Result<Head, Fault> {
        let mut walk = Walk::new("one", anchors);
        for link in links {
            walk.step(link)?;
        }
        walk.end(head)
    }

    #[test]
    fn a_chain_as_it_was_written_is_sound() {
        for length in [0, 1, 2, 9] {
            let links = chain(length);
            let head = links.last().map_or(Head::EMPTY, Link::head);
            assert_eq!(walk(&links, head, vec![]), Ok(head));
        }
    }

    #[test]
    fn every_field_of_a_row_counts() {
        let changes: [fn(&mut Entry); 12] = [
            |e| e.at = Timestamp::from_microsecond(e.at.as_microsecond() + 1).unwrap(),
            |e| e.peer = "https://c.example:5000/api/queues".into(),
            |e| e.certificate = None,
            |e| e.certificate = Some("".into()),
            |e| e.queue = "say_queu".into(),
            |e| e.action = "hello_worlds".into(),
            |e| e.message = None,
            |e| e.task = None,
            |e| e.body = Digest::of(b"[]"),
            |e| e.answer = "409".into(),
            // Text that moves from one field to the next one.
            |e| (e.queue, e.action) = ("say_queueh".into(), "ello_world".into()),
            |e| std::mem::swap(&mut e.message, &mut e.task),
        ];
        let mut links = chain(3);
        let head = links[2].head();
        for (n, change) in changes.into_iter().enumerate() {
            let sound = links[1].clone();
            change(&mut links[1].entry);
            assert_ne!(links[1], sound, "change {n} changes nothing");
            assert_eq!(walk(&links, head, vec![]), Err(Fault::Altered(2)), "{n}");
            links[1] = sound;
        }
    }

    #[test]
    fn what_was_done_to_a_chain_is_named_with_its_row() {
        let links = chain(5);
        let head = links[4].head();
        let without = |from: usize, to: usize| [&links[..from], &links[to..]].concat();
        let swapped = {
            let mut links = links.clone();
            (links[1].entry, links[2].entry) = (links[2].entry.clone(), links[1].entry.clone());
            links
        };
        let renumbered = {
            let mut links = without(1, 2);
            (1..).zip(&mut links).for_each(|(seq, link)| link.seq = seq);
            links
        };
        let added = {
            let mut links = links.clone();
            links.insert(
                0,
                Link {
                    seq: -3,
                    ..links[0].clone()
                },
            );
            links
        };
        let remade = {
            let mut links = links[..4].to_vec();
            let mut last = entry(5);
            last.answer = "503".into();
            links.push(links[3].head().link("one", last));
            links
        };
        for (links, expected) in [
            (without(0, 1), Fault::Missing(1, 1)),
            (without(1, 3), Fault::Missing(2, 3)),
            (without(3, 5), Fault::CutOff(4, 5)),
            (vec![], Fault::CutOff(1, 5)),
            (added, Fault::Foreign(-3)),
            (swapped, Fault::Altered(2)),
            (renumbered, Fault::Altered(2)),
            (remade, Fault::Unheaded(5)),
        ] {
            assert_eq!(walk(&links, head, vec![]), Err(expected));
        }
    }

    #[test]
    fn a_row_belongs_to_its_chain() {
        let links = chain(1);
        let mut other = Walk::new("two", vec![]);
        assert_eq!(other.step(&links[0]), Err(Fault::Altered(1)));
    }

    #[test]
    fn a_chain_that_was_made_anew_is_told_by_an_earlier_head() {
        let links = chain(5);
        let (head, early) = (links[4].head(), links[2].head());
        assert_eq!(walk(&links, head, vec![early, head]), Ok(head));
        let forged = Head {
            seq: 3,
            hash: Digest::of(b"another"),
        };
        assert_eq!(
            walk(&links, head, vec![head, forged]),
            Err(Fault::Rewritten(3))
        );
        let late = Head { seq: 6, ..head };
        assert_eq!(walk(&links, head, vec![late]), Err(Fault::Shortened(6, 5)));
    }

    #[test]
    fn a_head_is_read_as_it_is_written() {
        for chain in ["first", "127.0.0.1:5000", "[::1]:5000"] {
            let anchor = Anchor {
                chain: chain.to_owned(),
                head: Head {
                    seq: 7,
                    hash: Digest::of(b"x"),
                },
            };
            assert_eq!(anchor.to_string().parse(), Ok(anchor));
        }
        let hash = Digest::of(b"x").to_string();
        for wrong in [
            "",
            "first",
            "first:7",
            "first:7:ab",
            &format!("first:0:{hash}"),
            &format!("first:x:{hash}"),
            &format!("first:7:{}g", &hash[1..]),
            &format!("first:7:{hash}0"),
        ] {
            assert!(wrong.parse::<Anchor>().is_err(), "{wrong}");
        }
    }
}
