//! `--watch`: follows a task until it ends, by looking at its row, so that it does not matter which
//! process runs the task, or whether one does.

use std::{io::Write, time::Duration};

use jiff::Timestamp;

use super::{Stop, find, output};
use crate::{
    error::Error,
    model::{Status, TaskRecord},
    store::{Filters, Store, TASK_FIELDS},
};

/// How often the row is looked at.
const PAUSE: Duration = Duration::from_millis(200);

/// Writes a line for each change. Returns the status the task ended in.
pub(super) async fn follow(
    store: &Store,
    id: &str,
    json: bool,
    out: &mut dyn Write,
) -> Result<Status, Stop> {
    let mut task = find::task(store, id).await?;
    let this = Filters::new(TASK_FIELDS, &[format!("id={}", task.id)])?;
    if !json {
        let heading = format!("task {}  {}/{}", task.id, task.queue_name, task.action);
        output::line(out, &output::one_line(&heading))?;
    }
    let mut before = None;
    loop {
        let now = Some(progress(&task));
        if now != before {
            if json {
                output::compact(out, &task)?;
            } else {
                output::line(out, &describe(&task))?;
                out.flush().map_err(Stop::Output)?;
            }
            before = now;
        }
        if task.status.is_terminal() {
            return Ok(task.status);
        }
        tokio::time::sleep(PAUSE).await;
        task = (store.tasks(&this, 1).await?.pop()).ok_or_else(|| Error::UnknownTask(task.id))?;
    }
}

/// What makes a line worth writing when it changes.
fn progress(task: &TaskRecord) -> (Status, i64, i64, Option<Timestamp>) {
    (task.status, task.attempt, task.failures, task.run_date)
}

fn describe(task: &TaskRecord) -> String {
    let mut line = format!(
        "{}  {:<9}",
        task.last_modified_date.strftime("%Y-%m-%d %H:%M:%S%.3fZ"),
        task.status.as_str()
    );
    if task.attempt > 0 {
        line.push_str(&format!("  attempt {}", task.attempt));
    }
    if task.failures > 0 {
        line.push_str(&format!("  failures {}", task.failures));
    }
    if task.status.is_terminal() {
        let took = task.last_modified_date.duration_since(task.created_date);
        line.push_str(&format!("  after {:.3} s", took.as_secs_f64()));
        line.push_str("  ");
        line.push_str(&output::layout(task.output_data.get(), None));
    } else if let Some(at) = task.run_date.filter(|at| *at > task.last_modified_date) {
        line.push_str(&format!(
            "  not before {}",
            at.strftime("%Y-%m-%d %H:%M:%SZ")
        ));
    }
    output::one_line(line.trim_end())
}
