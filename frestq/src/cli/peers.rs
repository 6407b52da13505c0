//! `--peers`: lists the other peers with their certificates and grants, and whether each is
//! reachable.

use std::{collections::HashMap, io::Write};

use jiff::Timestamp;
use serde::Serialize;

use super::{
    output,
    stop::Stop,
    table::{Long, cut, render, whole},
};
use crate::{
    api::peers::PeerRecord,
    config::Config,
    model::{PeerId, error::Result},
    security::registered::PeerSet,
    store::{Contact, PeerHealth, PeerRow, Store},
};

/// A peer in the listing.
#[derive(Debug, Serialize)]
struct Line {
    /// `None` for a peer that is not registered.
    name: Option<String>,
    url: String,
    certificates: Vec<String>,
    /// Whether certificates of its authorities are accepted as well.
    ca: bool,
    allow: Vec<String>,
    registered_in: Option<&'static str>,
    /// When its last request arrived, and when it last answered a request of this peer. Both may
    /// be a few seconds old.
    last_heard: Option<Timestamp>,
    last_answer: Option<Timestamp>,
    breaker: &'static str,
    next_attempt: Option<Timestamp>,
    /// The number of messages that wait for it.
    backlog: i64,
    last_error: Option<String>,
}

/// Lists the registered peers, then the others that the database knows.
pub(super) async fn list(
    store: &Store,
    config: &Config,
    json: bool,
    width: Option<u16>,
    out: &mut dyn Write,
) -> Result<(), Stop> {
    let lines = lines(store, config).await?;
    if json {
        return output::pretty(out, &lines);
    }
    let rows: Vec<_> = lines
        .iter()
        .map(|line| {
            let breaker = match line.next_attempt {
                Some(at) => format!("{}, next attempt {}", line.breaker, at.strftime("%F %TZ")),
                None => line.breaker.to_owned(),
            };
            let mut pins: Vec<_> = line
                .certificates
                .iter()
                .map(|pin| pin.chars().take(19).collect::<String>())
                .collect();
            if line.ca {
                pins.push("ca".to_owned());
            }
            vec![
                line.name.clone().unwrap_or_else(|| "-".to_owned()),
                line.url.clone(),
                pins.join(" "),
                line.allow.join(" "),
                line.registered_in.unwrap_or("-").to_owned(),
                date(line.last_heard),
                date(line.last_answer),
                breaker,
                line.backlog.to_string(),
                output::one_line(line.last_error.as_deref().unwrap_or_default()),
            ]
        })
        .collect();
    let columns = [
        cut("name", 0),
        cut("url", 1),
        cut("certificates", 4),
        cut("allow", 3),
        cut("registered_in", 7),
        whole("last_heard", 8),
        whole("last_answer", 9),
        whole("breaker", 2),
        whole("backlog", 5),
        cut("last_error", 6),
    ];
    output::line(out, &render(&columns, &rows, width, Long::Wrapped))
}

fn date(date: Option<Timestamp>) -> String {
    date.map_or_else(|| "-".to_owned(), |at| at.strftime("%F %TZ").to_string())
}

async fn lines(store: &Store, config: &Config) -> Result<Vec<Line>> {
    let members = PeerSet::load(&config.peers)?.with(store.registrations().await?);
    let backlog: HashMap<PeerId, i64> = store.waiting_messages().await?.into_iter().collect();
    let known: Vec<PeerRow> = store
        .peers()
        .await?
        .into_iter()
        .filter(|row| row.id != PeerId::SELF)
        .collect();
    let mut lines = Vec::new();
    for member in members.all() {
        // By its name first, since its address may have changed since the last start.
        let row = known
            .iter()
            .find(|row| row.name.as_ref() == Some(&member.name));
        let row = row.or_else(|| known.iter().find(|row| row.url == member.url));
        let shown = PeerRecord::of(member);
        lines.push(Line {
            name: Some(shown.name),
            certificates: shown.certificates,
            ca: shown.ca,
            allow: shown.allow,
            registered_in: Some(shown.registered_in),
            ..line(member.url.to_string(), row, &backlog)
        });
    }
    let ignored = members.ignored.iter();
    lines.extend(ignored.map(|(name, why)| Line {
        name: Some(name.clone()),
        registered_in: Some("database, without effect"),
        last_error: Some(why.clone()),
        ..line(String::new(), None, &backlog)
    }));
    let others = known.iter().filter(|row| {
        let name = row.name.as_deref();
        let named = name.and_then(|name| members.by_name(name));
        named.or(members.by_url(&row.url)).is_none()
    });
    lines.extend(others.map(|row| line(row.url.to_string(), Some(row), &backlog)));
    Ok(lines)
}

fn line(url: String, row: Option<&PeerRow>, backlog: &HashMap<PeerId, i64>) -> Line {
    let health = row.map_or_else(PeerHealth::default, |row| row.health.clone());
    let contact = row.map_or_else(Contact::default, |row| row.contact);
    let waiting = row.and_then(|row| backlog.get(&row.id));
    Line {
        name: None,
        url,
        certificates: Vec::new(),
        ca: false,
        allow: Vec::new(),
        registered_in: None,
        last_heard: contact.heard,
        last_answer: contact.answered,
        breaker: if health.failures > 0 {
            "open"
        } else {
            "closed"
        },
        next_attempt: health.probe_at,
        backlog: waiting.copied().unwrap_or_default(),
        last_error: health.last_error,
    }
}
