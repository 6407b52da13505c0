//! `--tree`: a task with its subtree, loaded by one query.

use std::{collections::HashMap, io::Write};

use jiff::{SignedDuration, Timestamp};

use super::{find, output, stop::Stop};
use crate::{
    model::{
        Status, TaskId, TaskRecord,
        error::{Error, Result, TaskError},
    },
    store::Store,
};

/// The maximum number of characters of a shown output.
const SHORT: usize = 60;

pub(super) async fn show(
    store: &Store,
    id: &str,
    with_parents: bool,
    json: bool,
    width: Option<u16>,
    out: &mut dyn Write,
) -> Result<(), Stop> {
    let task = find::task(store, id).await?;
    let root = match with_parents {
        true => store.root(&task.id).await?,
        false => None,
    };
    let root = root.map_or_else(|| task.id.clone(), |root| root.id);
    let tree = Tree::load(store, &root).await?;
    if json {
        return output::line(out, &output::layout(&tree.json()?, Some(0)));
    }
    let marked = with_parents.then_some(&task.id);
    for line in tree.lines(marked, Timestamp::now(), width) {
        output::line(out, &line)?;
    }
    Ok(())
}

/// A task with its subtree.
pub(super) struct Tree {
    tasks: Vec<TaskRecord>,
    /// The indices of each task's children, in order.
    children: Vec<Vec<usize>>,
    root: usize,
}

/// A step of the traversal, which is iterative since a tree may be deeper than the stack.
enum Step {
    Enter(usize),
    Leave,
}

impl Tree {
    pub(super) async fn load(store: &Store, root: &TaskId) -> Result<Self> {
        Self::new(store.tree(root).await?, root)
    }

    fn new(tasks: Vec<TaskRecord>, root: &TaskId) -> Result<Self> {
        let places: HashMap<&TaskId, usize> = (0..tasks.len())
            .map(|place| (&tasks[place].id, place))
            .collect();
        let root = *places
            .get(root)
            .ok_or_else(|| Error::UnknownTask(root.clone()))?;
        let mut children = vec![Vec::new(); tasks.len()];
        for (place, task) in tasks.iter().enumerate() {
            let parent = task.parent_id.as_ref().and_then(|id| places.get(id));
            if let Some(parent) = parent.filter(|_| place != root) {
                children[*parent].push(place);
            }
        }
        for family in &mut children {
            family.sort_by_key(|place| tasks[*place].order);
        }
        Ok(Self {
            tasks,
            children,
            root,
        })
    }

    pub(super) fn root(&self) -> &TaskRecord {
        &self.tasks[self.root]
    }

    /// Renders a line for each task, cut to the width if there is one.
    pub(super) fn lines(
        &self,
        marked: Option<&TaskId>,
        now: Timestamp,
        width: Option<u16>,
    ) -> Vec<String> {
        let ids = self.tasks.iter().map(|task| task.id.as_str());
        let length = width.map_or(usize::MAX, |_| find::distinct(ids));
        let mut lines = Vec::with_capacity(self.tasks.len());
        // The task, the prefix of its own line, and the prefix of its children's lines.
        let mut open = vec![(self.root, String::new(), String::new())];
        while let Some((place, before, below)) = open.pop() {
            let task = &self.tasks[place];
            let mark = if marked == Some(&task.id) { "=> " } else { "" };
            let line = format!("{before}{mark}{}", describe(task, length, now));
            lines.push(match width {
                Some(width) => fit(&line, usize::from(width)),
                None => line,
            });
            let family = &self.children[place];
            for (index, child) in family.iter().enumerate().rev() {
                let (branch, trunk) = match index + 1 == family.len() {
                    true => ("└─ ", "   "),
                    false => ("├─ ", "│  "),
                };
                open.push((
                    *child,
                    format!("{below}{branch}"),
                    format!("{below}{trunk}"),
                ));
            }
        }
        lines
    }

    /// Writes each task with its `children`, as JSON.
    fn json(&self) -> Result<String> {
        let mut json = String::new();
        let mut steps = vec![Step::Enter(self.root)];
        while let Some(step) = steps.pop() {
            match step {
                Step::Enter(place) => {
                    // A sibling precedes it.
                    if json.ends_with('}') {
                        json.push(',');
                    }
                    let record = serde_json::to_string(&self.tasks[place])?;
                    json.push_str(record.strip_suffix('}').unwrap_or(&record));
                    json.push_str(",\"children\":[");
                    steps.push(Step::Leave);
                    steps.extend(self.children[place].iter().rev().map(|c| Step::Enter(*c)));
                }
                Step::Leave => json.push_str("]}"),
            }
        }
        Ok(json)
    }
}

fn describe(task: &TaskRecord, length: usize, now: Timestamp) -> String {
    let what = match task.queue_name.is_empty() {
        true => task.task_type.to_string(),
        false => format!("{}/{}", task.queue_name, task.action),
    };
    let mut parts = vec![
        find::shorten(task.id.as_str(), length),
        task.status.to_string(),
        what,
    ];
    parts.extend(task.label.as_ref().map(|label| format!("{label:?}")));
    match (task.is_local, task.is_received) {
        (true, _) => {}
        (_, true) => parts.push(format!("from {}", task.sender_url)),
        (_, false) => parts.push(format!("to {}", task.receiver_url)),
    }
    let until = match task.status.is_terminal() {
        true => task.last_modified_date,
        false => now,
    };
    parts.push(duration(until.duration_since(task.created_date)));
    match task.status {
        _ if task.pruned_date.is_some() => parts.push("pruned".to_owned()),
        Status::Finished if task.output_data.get() != "null" => {
            parts.push(shortened(&output::layout(task.output_data.get(), None)));
        }
        Status::Finished => {}
        status if status.is_terminal() => {
            let error = TaskError::from_output(&task.output_data).to_string();
            parts.push(shortened(&error));
        }
        Status::Executing => parts.extend(progress(task).map(|said| shortened(&said))),
        _ => {}
    }
    output::one_line(&parts.join("  "))
}

/// The progress that the handler has reported, as `40 % mixing`.
pub(super) fn progress(task: &TaskRecord) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Progress {
        fraction: f64,
        note: String,
    }
    let said: Progress = serde_json::from_str(task.progress.get()).ok()?;
    let percent = format!("{:.0} %", said.fraction * 100.0);
    Some(match said.note.is_empty() {
        true => percent,
        false => format!("{percent} {}", said.note),
    })
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHORT) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// Cuts a line so that it fits the terminal.
fn fit(line: &str, width: usize) -> String {
    // Characters of other scripts are at most two columns wide; those that this module draws take
    // one.
    let columns = |c: char| match c {
        '\u{2500}'..='\u{257f}' => 1,
        c if c.is_ascii() => 1,
        _ => 2,
    };
    let mut taken = 0;
    let mut cut = String::new();
    for c in line.chars() {
        taken += columns(c);
        if taken > width {
            break;
        }
        cut.push(c);
    }
    cut
}

/// Formats a duration with its two largest units.
pub(super) fn duration(duration: SignedDuration) -> String {
    // The clocks of two processes may differ.
    let seconds = duration.as_secs().max(0);
    match seconds {
        0..60 => format!("{:.1} s", duration.as_secs_f64().max(0.0)),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_its_two_largest_units() {
        let said = |seconds| duration(SignedDuration::from_secs(seconds));
        assert_eq!(said(-3), "0.0 s");
        assert_eq!(said(59), "59.0 s");
        assert_eq!(said(200), "3 min 20 s");
        assert_eq!(said(7_260), "2 h 1 min");
        assert_eq!(said(90_000), "1 d 1 h");
    }

    #[test]
    fn a_line_is_cut_where_the_terminal_ends() {
        assert_eq!(fit("├─ abc", 5), "├─ ab");
        assert_eq!(fit("日本", 3), "日");
    }
}
