//! `--watch`: follows a task until it ends. It reads the task's row, so it works whichever
//! process runs the task, if any.
//!
//! On a terminal, the whole tree is redrawn in place.

use std::{io::Write, time::Duration};

use jiff::Timestamp;

use super::{
    find, output,
    stop::Stop,
    table,
    tree::{self, Tree},
};
use crate::{
    model::{Status, TaskRecord, error::Error},
    store::{Filters, Store, TASK_FIELDS},
};

/// How often the row is read.
const PAUSE: Duration = Duration::from_millis(200);

/// A terminal on which the tree is redrawn in place.
pub(super) struct Screen {
    width: u16,
    height: u16,
    /// The number of lines drawn last.
    drawn: usize,
}

impl Screen {
    pub(super) fn new(width: u16) -> Self {
        Self {
            width,
            height: table::terminal_height().unwrap_or(24),
            drawn: 0,
        }
    }

    /// Draws over the lines drawn last.
    fn draw(&mut self, mut lines: Vec<String>, out: &mut dyn Write) -> Result<(), Stop> {
        // The cursor can't return to lines that have scrolled off the screen.
        let room = usize::from(self.height).saturating_sub(2).max(1);
        if lines.len() > room {
            let hidden = lines.len() - room + 1;
            lines.truncate(room - 1);
            lines.push(format!("... and {hidden} more"));
        }
        let mut text = String::new();
        if self.drawn > 0 {
            text.push_str(&format!("\u{1b}[{}A", self.drawn));
        }
        for line in &lines {
            text.push_str(&format!("\r\u{1b}[2K{line}\n"));
        }
        text.push_str("\u{1b}[J");
        self.drawn = lines.len();
        out.write_all(text.as_bytes()).map_err(Stop::Output)?;
        out.flush().map_err(Stop::Output)
    }
}

/// Draws the tree on a screen, or writes a line for each change otherwise. Returns the final
/// status of the task.
pub(super) async fn follow(
    store: &Store,
    id: &str,
    json: bool,
    screen: Option<Screen>,
    out: &mut dyn Write,
) -> Result<Status, Stop> {
    let mut task = find::task(store, id).await?.unless_pruned()?;
    if let Some(screen) = screen {
        return draw(store, &task, screen, out).await;
    }
    let this = Filters::new(TASK_FIELDS, &[format!("id={}", task.id)])?;
    if !json {
        let heading = format!("task {}  {}/{}", task.id, task.queue_name, task.action);
        output::line(out, &output::one_line(&heading))?;
    }
    let mut before = None;
    loop {
        let now = Some(state(&task));
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

async fn draw(
    store: &Store,
    task: &TaskRecord,
    mut screen: Screen,
    out: &mut dyn Write,
) -> Result<Status, Stop> {
    loop {
        let before = tokio::time::Instant::now();
        let tree = Tree::load(store, &task.id).await?;
        let took = before.elapsed();
        screen.draw(tree.lines(None, Timestamp::now(), Some(screen.width)), out)?;
        let root = tree.root();
        if root.status.is_terminal() {
            output::line(out, &describe(root))?;
            return Ok(root.status);
        }
        // A large tree must not load the database continuously.
        tokio::time::sleep(PAUSE.max(took * 5)).await;
    }
}

/// The fields whose change is worth a line.
fn state(task: &TaskRecord) -> (Status, i64, i64, Option<Timestamp>, String) {
    let said = task.progress.get().to_owned();
    (
        task.status,
        task.attempt,
        task.failures,
        task.run_date,
        said,
    )
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
    if let Some(said) = tree::progress(task).filter(|_| task.status == Status::Executing) {
        line.push_str(&format!("  {said}"));
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
