//! Shortened ids: how to resolve them, and how short one may be shown.

use std::collections::BTreeSet;

use super::output::one_line;
use crate::{
    model::{
        MessageRecord, TaskRecord,
        error::{Error, Result},
    },
    store::{Filters, MESSAGE_FIELDS, Store, TASK_FIELDS},
};

/// The minimum length of a shown id, so that the next task does not make it ambiguous at once.
const MIN_LENGTH: usize = 8;
/// A listing of more rows shows whole ids: each short one costs a query.
const MAX_SHORTENED: usize = 100;
/// How many candidates the error for an ambiguous id lists.
const MAX_CANDIDATES: usize = 5;

/// Finds the only task whose id is this or starts with it.
pub(super) async fn task(store: &Store, id: &str) -> Result<TaskRecord> {
    let exact = Filters::new(TASK_FIELDS, &[format!("id={id}")])?;
    if let Some(task) = store.tasks(&exact, 1).await?.pop() {
        return Ok(task);
    }
    let mut found = store.find_tasks(id, MAX_CANDIDATES as i64 + 1).await?;
    match (found.len(), found.pop()) {
        (1, Some(task)) => Ok(task),
        (0, _) | (_, None) => Err(Error::Invalid(format!(
            "no task here has an id that starts with {id:?}; --tasks lists the newest ones"
        ))),
        (_, Some(last)) => {
            found.push(last);
            let lines = found.iter().map(|task| {
                format!(
                    "{}  {}  {}/{}",
                    task.id, task.status, task.queue_name, task.action
                )
            });
            Err(ambiguous("tasks", id, lines))
        }
    }
}

/// Finds the message whose id is this or starts with it. There are several if several peers chose
/// the same id, or if a peer sent it to itself.
pub(super) async fn messages(store: &Store, id: &str) -> Result<Vec<MessageRecord>> {
    let exact = Filters::new(MESSAGE_FIELDS, &[format!("id={id}")])?;
    let limit = MAX_CANDIDATES as i64 + 1;
    let found = store.messages(&exact, limit).await?;
    if !found.is_empty() {
        return Ok(found);
    }
    let starting = Filters::new(MESSAGE_FIELDS, &[format!("id={id}*")])?;
    let found = store.messages(&starting, limit).await?;
    let Some(first) = found.first() else {
        return Err(Error::Invalid(format!(
            "no message here has an id that starts with {id:?}; --messages lists the newest ones"
        )));
    };
    if found.iter().all(|message| message.id == first.id) {
        return Ok(found);
    }
    let lines = found.iter().map(|message| {
        format!(
            "{}  {}  {}/{}",
            message.id, message.state, message.queue_name, message.action
        )
    });
    Err(ambiguous("messages", id, lines))
}

fn ambiguous(what: &str, id: &str, lines: impl Iterator<Item = String>) -> Error {
    let mut lines: Vec<_> = lines
        .map(|line| format!("\n  {}", one_line(&line)))
        .collect();
    let more = match lines.len() > MAX_CANDIDATES {
        true => "\n  ...",
        false => "",
    };
    lines.truncate(MAX_CANDIDATES);
    Error::Invalid(format!(
        "several {what} have an id that starts with {id:?}; give more characters:{}{more}",
        lines.concat()
    ))
}

/// The number of characters that distinguish these ids from each other.
pub(super) fn distinct<'a>(ids: impl IntoIterator<Item = &'a str>) -> usize {
    let ids: BTreeSet<&str> = ids.into_iter().collect();
    ids.iter()
        .zip(ids.iter().skip(1))
        .map(|(a, b)| common(a, b) + 1)
        .max()
        .unwrap_or(0)
        .max(MIN_LENGTH)
}

/// The number of characters that distinguish each of these tasks' ids from every task in the
/// database.
pub(super) async fn distinct_in_store(store: &Store, ids: &[&str]) -> Result<usize> {
    if ids.len() > MAX_SHORTENED {
        return Ok(usize::MAX);
    }
    let mut length = distinct(ids.iter().copied());
    for id in ids {
        // The length grows in each round: other tasks may be hidden by those found first.
        while length < id.chars().count() {
            let found = store.find_tasks(&shorten(id, length), 3).await?;
            let others = found.iter().map(|task| task.id.as_str());
            let Some(longest) = others.filter(|o| o != id).map(|o| common(o, id)).max() else {
                break;
            };
            length = longest + 1;
        }
    }
    Ok(length)
}

/// The id's first characters, without a dash at the end.
pub(super) fn shorten(id: &str, length: usize) -> String {
    let mut short: String = id.chars().take(length).collect();
    if short.ends_with('-') && short.len() < id.len() {
        short.extend(id.chars().nth(length));
    }
    short
}

fn common(a: &str, b: &str) -> usize {
    a.chars().zip(b.chars()).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_ids_stay_distinct() {
        let ids = [
            "0198c0de-1111",
            "0198c0de-1122",
            "0198c0de-9999",
            "0198c0de-9999",
        ];
        let length = distinct(ids);
        assert_eq!(length, 12);
        assert_eq!(shorten(ids[0], length), "0198c0de-111");
    }

    #[test]
    fn a_short_id_has_eight_characters_at_least_and_no_dash_at_its_end() {
        assert_eq!(distinct(["abcdefghijk"]), MIN_LENGTH);
        assert_eq!(shorten("0198c0de-1111", 9), "0198c0de-1");
    }
}
