//! `--audit` and `--verify-audit`: list the audit, and verify that it is unchanged.

use std::{collections::BTreeMap, io::Write};

use jiff::Timestamp;
use serde::Serialize;

use super::{
    flags::Flags,
    list, output,
    stop::Stop,
    table::{Column, Long, cut, render, whole},
};
use crate::{
    model::{
        audit::{Anchor, Head, Link},
        error::Error,
    },
    security::audit::{Fault, verify as verify_chain},
    store::Store,
};

const COLUMNS: &[Column] = &[
    whole("date", 0),
    cut("peer", 1),
    cut("certificate", 6),
    cut("queue_name", 4),
    cut("action", 2),
    cut("task_id", 3),
    cut("answer", 5),
    cut("chain", 8),
    whole("seq", 7),
];

/// A row of the audit, as `--json` writes it.
#[derive(Serialize)]
struct Record<'a> {
    chain: &'a str,
    seq: i64,
    date: Timestamp,
    peer: &'a str,
    certificate: Option<&'a str>,
    queue_name: &'a str,
    action: &'a str,
    message_id: Option<&'a str>,
    task_id: Option<&'a str>,
    body_sha256: String,
    answer: &'a str,
    hash: String,
}

impl<'a> Record<'a> {
    fn of((chain, link): &'a (String, Link)) -> Self {
        let entry = &link.entry;
        Self {
            chain,
            seq: link.seq,
            date: entry.at,
            peer: &entry.peer,
            certificate: entry.certificate.as_deref(),
            queue_name: &entry.queue,
            action: &entry.action,
            message_id: entry.message.as_deref(),
            task_id: entry.task.as_deref(),
            body_sha256: entry.body.to_string(),
            answer: &entry.answer,
            hash: link.hash.to_string(),
        }
    }
}

/// `--audit`
pub(super) async fn list(
    store: &Store,
    flags: &Flags,
    width: Option<u16>,
    out: &mut dyn Write,
) -> Result<(), Stop> {
    let links = store.audited(&list::filters(flags)?, flags.limit()).await?;
    let records: Vec<_> = links.iter().map(Record::of).collect();
    if flags.json {
        return output::pretty(out, &records);
    }
    if records.is_empty() {
        return output::line(out, "no rows of the audit match");
    }
    let rows: Vec<_> = records.iter().map(row).collect();
    output::line(out, &render(COLUMNS, &rows, width, Long::Cut))
}

fn row(record: &Record<'_>) -> Vec<String> {
    let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
    vec![
        list::date(record.date),
        record.peer.to_owned(),
        text(record.certificate),
        record.queue_name.to_owned(),
        record.action.to_owned(),
        text(record.task_id),
        record.answer.to_owned(),
        record.chain.to_owned(),
        record.seq.to_string(),
    ]
}

/// Parses the earlier heads that must be in the audit. An invalid one is an error of usage.
pub(super) fn anchors(flags: &Flags) -> Result<Vec<Anchor>, Stop> {
    let given = flags.verify_audit.iter().flatten();
    given
        .map(|head| head.parse())
        .collect::<Result<_, _>>()
        .map_err(|why| Stop::Usage(Box::new(Error::Invalid(why))))
}

/// `--verify-audit`: writes a line for each chain. Returns whether all are sound.
pub(super) async fn verify(
    store: &Store,
    flags: &Flags,
    out: &mut dyn Write,
) -> Result<bool, Stop> {
    let mut expected: BTreeMap<String, Vec<Head>> = BTreeMap::new();
    for Anchor { chain, head } in anchors(flags)? {
        expected.entry(chain).or_default().push(head);
    }
    let chains = store.audit_chains().await?;
    if chains.is_empty() && expected.is_empty() {
        output::line(out, "the audit is empty")?;
        return Ok(true);
    }
    let mut sound = true;
    let mut report = |chain: String, found: Result<Head, Fault>| {
        sound &= found.is_ok();
        let line = match found {
            Ok(head) => Anchor { chain, head }.to_string(),
            Err(fault) => format!("audit {chain}: {fault}"),
        };
        output::line(out, &output::one_line(&line))
    };
    for chain in chains {
        let anchors = expected.remove(&chain.name).unwrap_or_default();
        let found = verify_chain(store, &chain, anchors).await?;
        report(chain.name, found)?;
    }
    for chain in expected.into_keys() {
        report(chain, Err(Fault::Gone))?;
    }
    Ok(sound)
}
