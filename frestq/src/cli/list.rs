//! `--tasks` and `--messages`.

use std::io::Write;

use jiff::Timestamp;

use super::{
    find,
    flags::Flags,
    output,
    stop::Stop,
    table::{Column, Long, cut, render, whole},
};
use crate::{
    model::{MessageRecord, TaskRecord},
    store::{AUDIT_FIELDS, Filters, MESSAGE_FIELDS, Store, TASK_FIELDS},
};

const TASK_COLUMNS: &[Column] = &[
    whole("id", 0),
    whole("status", 1),
    cut("queue_name", 4),
    cut("action", 2),
    cut("label", 5),
    cut("peer", 6),
    whole("created_date", 3),
    whole("task_type", 8),
    whole("attempt", 7),
];

const MESSAGE_COLUMNS: &[Column] = &[
    whole("id", 0),
    whole("state", 1),
    cut("queue_name", 5),
    cut("action", 2),
    cut("peer", 4),
    whole("created_date", 3),
    cut("task_id", 6),
    whole("answer", 7),
    cut("last_error", 8),
];

/// The filters of a listing. Invalid ones are an error of usage, which is found before the
/// database is opened.
pub(super) fn filters(flags: &Flags) -> Result<Filters, Stop> {
    let fields = match (flags.messages, flags.audit) {
        (true, _) => MESSAGE_FIELDS,
        (_, true) => AUDIT_FIELDS,
        _ => TASK_FIELDS,
    };
    Filters::new(fields, &flags.filters).map_err(|error| Stop::Usage(Box::new(error)))
}

pub(super) async fn tasks(
    store: &Store,
    flags: &Flags,
    width: Option<u16>,
    out: &mut dyn Write,
) -> Result<(), Stop> {
    let filters = filters(flags)?.unless_pruned();
    let tasks = store.tasks(&filters, flags.limit()).await?;
    if flags.json {
        return output::pretty(out, &tasks);
    }
    if tasks.is_empty() {
        return output::line(out, "no tasks match");
    }
    let ids: Vec<_> = tasks.iter().map(|task| task.id.as_str()).collect();
    let length = match width {
        Some(_) => find::distinct_in_store(store, &ids).await?,
        // An id in a script's output must stay unique.
        None => usize::MAX,
    };
    let rows: Vec<_> = tasks.iter().map(|task| task_row(task, length)).collect();
    output::line(out, &render(TASK_COLUMNS, &rows, width, Long::Cut))
}

fn task_row(task: &TaskRecord, length: usize) -> Vec<String> {
    let peer = match (task.is_local, task.is_received) {
        (true, _) => String::new(),
        (_, true) => format!("from {}", task.sender_url),
        (_, false) => format!("to {}", task.receiver_url),
    };
    vec![
        find::shorten(task.id.as_str(), length),
        task.status.to_string(),
        task.queue_name.clone(),
        task.action.clone(),
        task.label.clone().unwrap_or_default(),
        peer,
        date(task.created_date),
        task.task_type.to_string(),
        task.attempt.to_string(),
    ]
}

pub(super) async fn messages(
    store: &Store,
    flags: &Flags,
    width: Option<u16>,
    out: &mut dyn Write,
) -> Result<(), Stop> {
    let messages = store.messages(&filters(flags)?, flags.limit()).await?;
    if flags.json {
        return output::pretty(out, &messages);
    }
    if messages.is_empty() {
        return output::line(out, "no messages match");
    }
    // Messages have no index by id alone, so ids are distinct within the listing only. If another
    // message has the same beginning, `--show-message` lists both.
    let length = width.map_or(usize::MAX, |_| {
        find::distinct(messages.iter().map(|message| message.id.as_str()))
    });
    let rows: Vec<_> = messages.iter().map(|m| message_row(m, length)).collect();
    output::line(out, &render(MESSAGE_COLUMNS, &rows, width, Long::Cut))
}

fn message_row(message: &MessageRecord, length: usize) -> Vec<String> {
    let peer = match message.is_received {
        true => format!("from {}", message.sender_url),
        false => format!("to {}", message.receiver_url),
    };
    let answer = match message.output_status {
        0 => String::new(),
        status => status.to_string(),
    };
    vec![
        find::shorten(message.id.as_str(), length),
        message.state.clone(),
        message.queue_name.clone(),
        message.action.clone(),
        peer,
        date(message.created_date),
        message
            .task_id
            .as_ref()
            .map_or_else(String::new, ToString::to_string),
        answer,
        message.last_error.clone().unwrap_or_default(),
    ]
}

/// A date in UTC, to the second.
pub(super) fn date(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}
