//! `--show-external`: a task that waits for a person, with the data for the decision.

use std::io::Write;

use jiff::Timestamp;
use serde::Serialize;

use super::{find, output, stop::Stop, tree::duration};
use crate::{
    model::{Json, Status, TaskId, TaskKind, error::Error},
    store::Store,
};

/// The fields that are shown.
#[derive(Serialize)]
struct External {
    id: TaskId,
    label: Option<String>,
    status: Status,
    /// Whether a decision is possible now.
    waits: bool,
    waiting_since: Option<Timestamp>,
    expiration_date: Option<Timestamp>,
    /// The task at the top of its tree.
    root_id: Option<TaskId>,
    input_data: Json,
    output_data: Json,
}

pub(super) async fn show(
    store: &Store,
    id: &str,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Stop> {
    let task = find::task(store, id).await?;
    if task.task_type != TaskKind::External {
        let why = format!(
            "task {} is {}, not external: it waits for no person; --show-task shows it",
            task.id, task.task_type
        );
        return Err(Error::Invalid(why).into());
    }
    let waits = task.status == Status::Executing;
    let root = store.root(&task.id).await?;
    let external = External {
        waits,
        waiting_since: waits.then_some(task.last_modified_date),
        root_id: root.map(|root| root.id).filter(|root| *root != task.id),
        id: task.id,
        label: task.label,
        status: task.status,
        expiration_date: task.expiration_date,
        input_data: task.input_data,
        output_data: task.output_data,
    };
    if json {
        return output::pretty(out, &external);
    }
    describe(&external, Timestamp::now(), out)
}

fn describe(task: &External, now: Timestamp, out: &mut dyn Write) -> Result<(), Stop> {
    let date = |at: Timestamp| at.strftime("%Y-%m-%d %H:%M:%SZ").to_string();
    let waits = match task.waiting_since {
        Some(since) => format!(
            "now, since {} ({})",
            date(since),
            duration(now.duration_since(since))
        ),
        None if task.status.is_terminal() => format!("no longer: it has ended, as {}", task.status),
        None => "not yet: an earlier task of its tree has not ended".to_owned(),
    };
    let mut line = |name: &str, value: &str| {
        output::line(out, &format!("{name:<8}  {}", output::harmless(value)))
    };
    line("id", task.id.as_str())?;
    line("label", task.label.as_deref().unwrap_or("-"))?;
    line("waits", &waits)?;
    line(
        "expires",
        &task.expiration_date.map_or_else(|| "-".to_owned(), date),
    )?;
    line("tree of", task.root_id.as_ref().map_or("-", TaskId::as_str))?;
    line("data", &output::layout(task.input_data.get(), Some(0)))?;
    if task.status.is_terminal() {
        line("output", &output::layout(task.output_data.get(), Some(0)))?;
    }
    Ok(())
}
