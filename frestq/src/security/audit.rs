//! Verification of the audit's hash chains.
//!
//! A row that was changed, removed or moved breaks its chain. The head, which is stored
//! separately, reveals rows that were removed at the end. A chain alone can't reveal that it was
//! rewritten as a whole: that takes an earlier head that was stored elsewhere, an
//! [`Anchor`](crate::model::audit::Anchor).

use std::{cmp::Ordering, fmt};

use crate::{
    model::{
        audit::{Head, Link},
        error::Result,
    },
    store::{Chained, Store},
};

/// Verifies a chain page by page, up to the head that it had when it was listed.
///
/// # Errors
///
/// Only errors of the database; a fault of the chain is in the inner result.
pub(crate) async fn verify(
    store: &Store,
    chain: &Chained,
    anchors: Vec<Head>,
) -> Result<Result<Head, Fault>> {
    let mut verifier = ChainVerifier::new(&chain.name, anchors);
    loop {
        let page = store
            .audit_page(&chain.name, verifier.after(), chain.head.seq)
            .await?;
        if page.is_empty() {
            break;
        }
        for link in &page {
            if let Err(fault) = verifier.step(link) {
                return Ok(Err(fault));
            }
        }
    }
    Ok(verifier.end(chain.head).and_then(|head| {
        // Rows that are written during verification come after that head.
        match chain.last > head.seq {
            true => Err(Fault::Beyond(head.seq + 1, chain.last)),
            false => Ok(head),
        }
    }))
}

/// A fault of a chain.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fault {
    /// The rows from the first to the second number are missing, but later ones exist.
    Missing(i64, i64),
    /// The row has a number that the committer never assigns.
    Foreign(i64),
    /// The row's hash does not follow from its content and the row before it.
    Altered(i64),
    /// The rows from the first to the second number, the last of the chain, are missing.
    CutOff(i64, i64),
    /// The rows from the first to the second number come after the head.
    Beyond(i64, i64),
    /// The hash of the last row is not that of the head.
    Unheaded(i64),
    /// The hash of the row is not that of the given anchor.
    Rewritten(i64),
    /// The given anchor has the first number, but the chain ends with the second.
    Shortened(i64, i64),
    /// The chain of an anchor does not exist.
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
                write!(
                    f,
                    "row {seq} was not written by frestq: rows are numbered from 1"
                )
            }
            Fault::Altered(seq) => write!(
                f,
                "row {seq} is not what was written there: it was changed or moved"
            ),
            Fault::CutOff(from, to) => write!(f, "{} cut off at the end", rows(from, to)),
            Fault::Beyond(from, to) => write!(
                f,
                "{} beyond the head: they were added, or the head was set back",
                rows(from, to)
            ),
            Fault::Unheaded(seq) => write!(f, "row {seq}, the last one, does not match the head"),
            Fault::Rewritten(seq) => {
                write!(f, "row {seq} does not match the given head")
            }
            Fault::Shortened(seq, last) => write!(
                f,
                "the chain ends with row {last}, but the given head is that of row {seq}"
            ),
            Fault::Gone => f.write_str("this chain does not exist"),
        }
    }
}

/// Verifies a chain row by row, from the first one.
#[derive(Debug)]
pub(crate) struct ChainVerifier<'a> {
    chain: &'a str,
    at: Head,
    /// Earlier heads that the chain must contain, in ascending order.
    anchors: Vec<Head>,
}

impl<'a> ChainVerifier<'a> {
    pub(crate) fn new(chain: &'a str, mut anchors: Vec<Head>) -> Self {
        anchors.sort_by_key(|anchor| anchor.seq);
        Self {
            chain,
            at: Head::EMPTY,
            anchors,
        }
    }

    /// The number after which the next row is read; at first the smallest one, to find rows with
    /// forged numbers.
    pub(crate) fn after(&self) -> i64 {
        match self.at.seq {
            0 => i64::MIN,
            seq => seq,
        }
    }

    /// Verifies the next row.
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

    /// Compares the last row with the head that is stored separately.
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

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::model::audit::{Anchor, Digest, Entry};

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

    fn verify_links(links: &[Link], head: Head, anchors: Vec<Head>) -> Result<Head, Fault> {
        let mut verifier = ChainVerifier::new("one", anchors);
        for link in links {
            verifier.step(link)?;
        }
        verifier.end(head)
    }

    #[test]
    fn an_unchanged_chain_is_valid() {
        for length in [0, 1, 2, 9] {
            let links = chain(length);
            let head = links.last().map_or(Head::EMPTY, Link::head);
            assert_eq!(verify_links(&links, head, vec![]), Ok(head));
        }
    }

    #[test]
    fn every_field_of_a_row_is_hashed() {
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
            let original = links[1].clone();
            change(&mut links[1].entry);
            assert_ne!(links[1], original, "change {n} changes nothing");
            assert_eq!(
                verify_links(&links, head, vec![]),
                Err(Fault::Altered(2)),
                "{n}"
            );
            links[1] = original;
        }
    }

    #[test]
    fn each_manipulation_is_reported_with_its_row() {
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
            assert_eq!(verify_links(&links, head, vec![]), Err(expected));
        }
    }

    #[test]
    fn the_name_of_the_chain_is_hashed() {
        let links = chain(1);
        let mut other = ChainVerifier::new("two", vec![]);
        assert_eq!(other.step(&links[0]), Err(Fault::Altered(1)));
    }

    #[test]
    fn an_earlier_head_reveals_a_rewritten_chain() {
        let links = chain(5);
        let (head, early) = (links[4].head(), links[2].head());
        assert_eq!(verify_links(&links, head, vec![early, head]), Ok(head));
        let forged = Head {
            seq: 3,
            hash: Digest::of(b"another"),
        };
        assert_eq!(
            verify_links(&links, head, vec![head, forged]),
            Err(Fault::Rewritten(3))
        );
        let late = Head { seq: 6, ..head };
        assert_eq!(
            verify_links(&links, head, vec![late]),
            Err(Fault::Shortened(6, 5))
        );
    }

    #[test]
    fn an_anchor_is_parsed_as_it_is_printed() {
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
