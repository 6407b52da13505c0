//! Works through a page: writes its files, types its commands, and compares what they print.

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{
    commands::{self, is_skipped, named_id, only_lists, replace_word, starts_job},
    comparing::difference,
    parser::{Block, Command, Printed, parse},
    session::{Place, Progress, Session, is_alive},
    within,
};

/// How long a listing may take until it shows what the page shows.
const LISTING: Duration = Duration::from_secs(30);

/// How long a peer may take to start or to stop.
const PEER: Duration = Duration::from_secs(60);

/// How long a command may take.
const COMMAND: Duration = Duration::from_secs(120);

/// How long a command may take that builds.
const BUILD: Duration = Duration::from_secs(1200);

const MAIN: &str = "main";

/// Works through a page in an empty folder.
///
/// # Panics
///
/// If anything goes otherwise than the page says, with the page, the line and the difference.
pub(super) fn run(name: &str, page: &str, folder: &Path, clone: &Path) {
    let blocks = parse(page);
    let nginx = std::env::var_os("FRESTQ_TEST_NGINX").map(PathBuf::from);
    if nginx.is_none() && blocks.iter().any(uses_nginx) {
        eprintln!("{name} is not run: FRESTQ_TEST_NGINX names no nginx");
        return;
    }
    let place = Place::new(folder, clone, nginx.as_deref());
    let main = Session::start(&place, MAIN, &place.view());
    let mut walk = Walk {
        name,
        place,
        sessions: BTreeMap::from([(MAIN.to_owned(), main)]),
        running: BTreeMap::new(),
        id: None,
    };
    for block in &blocks {
        match block {
            Block::File { line, path, text } => walk.write(*line, path, text),
            Block::Shell {
                terminal,
                commands,
                printed,
            } => walk.type_in(terminal.as_deref(), commands, printed.as_ref()),
        }
    }
    for terminal in walk.running.keys().cloned().collect::<Vec<_>>() {
        walk.look_after(&terminal, false);
    }
}

struct Walk<'a> {
    name: &'a str,
    place: Place,
    sessions: BTreeMap<String, Session>,
    /// The commands that were left running in a session.
    running: BTreeMap<String, (&'a Command, usize)>,
    /// What `ID` in a command stands for.
    id: Option<String>,
}

impl<'a> Walk<'a> {
    fn fail(&self, line: usize, what: &str) -> ! {
        panic!("{}:{line}: {what}", self.name);
    }

    fn session(&mut self, name: &str) -> &mut Session {
        self.sessions.get_mut(name).unwrap()
    }

    fn write(&mut self, line: usize, path: &Path, text: &str) {
        let path = self.session(MAIN).directory().join(path);
        // A file of the clone would be written through its view.
        let in_clone = path.starts_with(self.place.view())
            && path.parent() != Some(self.place.view().as_path());
        if in_clone {
            self.fail(line, "the block would be written into the clone");
        }
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Types the commands of a block.
    fn type_in(
        &mut self,
        terminal: Option<&str>,
        commands: &'a [Command],
        printed: Option<&Printed>,
    ) {
        let name = terminal.unwrap_or(MAIN);
        if !self.sessions.contains_key(name) {
            let directory = self.session(MAIN).directory();
            let session = Session::start(&self.place, name, &directory);
            self.sessions.insert(name.to_owned(), session);
        }
        self.look_after(name, true);
        for (number, command) in (1..).zip(commands) {
            let is_last = number == commands.len();
            if is_skipped(&command.text) {
                eprintln!("{}:{}: skipped: {}", self.name, command.line, command.text);
                continue;
            }
            let may_run_on = is_last && terminal.is_some();
            self.carry_out(name, command, printed.filter(|_| is_last), may_run_on);
        }
    }

    /// Checks the command that was left running in a session. If it has ended, its exit status counts.
    /// If not, `stop` presses Ctrl-C, since the session is needed.
    fn look_after(&mut self, name: &str, stop: bool) {
        let Some((command, terminal)) = self.running.remove(name) else {
            return;
        };
        let session = self.session(name);
        match session.progress(Duration::ZERO) {
            Progress::Running if stop => session.interrupt(),
            Progress::Running => {}
            Progress::Ended(status) => {
                let shown = session.shown(terminal);
                if let Some(fault) = fault(command, None, status, &shown) {
                    self.fail(command.line, &fault);
                }
            }
        }
    }

    /// Types a command. One that only lists is repeated until it shows what the page shows.
    fn carry_out(
        &mut self,
        name: &str,
        command: &'a Command,
        printed: Option<&Printed>,
        may_run_on: bool,
    ) {
        let text = self.with_id(command);
        let deadline = Instant::now() + LISTING;
        loop {
            let in_background = starts_job(&text) && !only_lists(&text);
            let session = self.session(name);
            let former = match in_background {
                true => session.jobs(),
                false => HashSet::new(),
            };
            let stopped = stopped_jobs(session, &text);
            let terminal = session.enter(&text);
            let Progress::Ended(status) = self.wait(name, command, terminal, may_run_on) else {
                self.running.insert(name.to_owned(), (command, terminal));
                if let Some(printed) = printed {
                    self.wait_for_print(name, terminal, printed);
                }
                return;
            };
            let shown = self.session(name).shown(terminal);
            if let Some(fault) = fault(command, printed, status, &shown) {
                if only_lists(&text) && Instant::now() < deadline {
                    std::thread::sleep(Duration::from_millis(100));
                    continue;
                }
                let line = printed.map_or(command.line, |printed| printed.line);
                self.fail(line, &format!("{text}\n{fault}"));
            }
            if in_background {
                self.wait_until_served(name, command, terminal, &former);
            }
            within(PEER, &format!("{}: {text}: they end", self.name), || {
                (!stopped.iter().any(|pid| is_alive(*pid))).then_some(())
            });
            let keeps = text != command.text && only_lists(&text);
            if let Some(id) = named_id(&shown, keeps) {
                self.id = Some(id);
            }
            return;
        }
    }

    /// A command with the id that it means.
    fn with_id(&self, command: &Command) -> String {
        let text = replace_word(&command.text, "ID", self.id.as_deref().unwrap_or("ID"));
        if self.id.is_none() && replace_word(&command.text, "ID", "") != command.text {
            self.fail(command.line, "nothing above has printed an id");
        }
        text
    }

    /// Waits until a command has ended. One that may run on is left alone once it is at its work.
    fn wait(
        &mut self,
        name: &str,
        command: &Command,
        terminal: usize,
        may_run_on: bool,
    ) -> Progress {
        let patience = match command.text.contains("cargo") {
            true => BUILD,
            false => COMMAND,
        };
        let deadline = Instant::now() + patience;
        loop {
            let session = self.session(name);
            let progress = session.progress(Duration::from_millis(20));
            if progress != Progress::Running {
                return progress;
            }
            let shown = session.shown(terminal);
            let is_at_work =
                shown.contains(SERVING) || (command.text.contains("--watch") && !shown.is_empty());
            if may_run_on && is_at_work {
                return progress;
            }
            if Instant::now() > deadline {
                let fault = format!("{}\ndoes not end; it shows\n{shown}", command.text);
                self.fail(command.line, &fault);
            }
        }
    }

    fn wait_for_print(&mut self, name: &str, terminal: usize, printed: &Printed) {
        let deadline = Instant::now() + LISTING;
        loop {
            let session = self.session(name);
            session.progress(Duration::from_millis(20));
            match difference(&printed.text, &session.shown(terminal)) {
                None => return,
                Some(difference) if Instant::now() > deadline => {
                    self.fail(printed.line, &difference);
                }
                Some(_) => {}
            }
        }
    }

    /// Waits until the peers that a command has started in the background serve.
    fn wait_until_served(
        &mut self,
        name: &str,
        command: &Command,
        terminal: usize,
        former: &HashSet<i32>,
    ) {
        let session = self.session(name);
        let started = session.jobs();
        let started: Vec<i32> = started.difference(former).copied().collect();
        let deadline = Instant::now() + PEER;
        let fault = loop {
            let shown = session.shown(terminal);
            let mut logs: BTreeMap<PathBuf, usize> = BTreeMap::new();
            for pid in started.iter().filter(|pid| is_peer(**pid)) {
                let log = fs::read_link(format!("/proc/{pid}/fd/2")).unwrap_or_default();
                *logs.entry(log).or_default() += 1;
            }
            // What is no file is the terminal, or a pipe that leads to it.
            let text = |log: &Path| match log.is_file() {
                true => fs::read_to_string(log).unwrap_or_default(),
                false => shown.clone(),
            };
            let serves =
                |(log, peers): (&PathBuf, &usize)| text(log).matches(SERVING).count() >= *peers;
            if logs.iter().all(serves) {
                return;
            }
            let all: String = logs.keys().map(|log| text(log)).collect();
            if !started.iter().all(|pid| is_alive(*pid)) {
                break format!("a peer has ended instead of serving:\n{shown}{all}");
            }
            if Instant::now() > deadline {
                break format!("a peer does not serve:\n{all}");
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        self.fail(command.line, &format!("{}\n{fault}", command.text));
    }
}

/// What the log of a peer says once it serves.
const SERVING: &str = " serving ";

fn uses_nginx(block: &Block) -> bool {
    match block {
        Block::Shell { commands, .. } => commands
            .iter()
            .any(|command| commands::uses_nginx(&command.text)),
        Block::File { .. } => false,
    }
}

/// The processes that a `kill` stops. Where a person sees that they have ended, the page waits.
fn stopped_jobs(session: &mut Session, text: &str) -> Vec<i32> {
    const ENDS: [&str; 6] = ["-TERM", "-INT", "-KILL", "-9", "-15", "-2"];
    let first = text.split([';', '|', '\n']).next().unwrap_or(text);
    let mut words = first.split_whitespace();
    let ends = |word: &str| !word.starts_with('-') || word == "-p)" || ENDS.contains(&word);
    if words.next() != Some("kill") || !words.clone().all(ends) {
        return Vec::new();
    }
    if first.contains("jobs -p") {
        return session.jobs().into_iter().collect();
    }
    let jobs: Vec<_> = words.filter(|word| word.starts_with('%')).collect();
    if jobs.is_empty() {
        return Vec::new();
    }
    let jobs = session.ask(&format!("jobs -p {}", jobs.join(" ")));
    jobs.lines().filter_map(|line| line.parse().ok()).collect()
}

/// Whether a job is a peer, or may become one: nothing that the system brings along.
fn is_peer(pid: i32) -> bool {
    let Ok(program) = fs::read_link(format!("/proc/{pid}/exe")) else {
        return true;
    };
    let of_the_system = program.starts_with("/usr") || program.starts_with("/bin");
    program.ends_with("bash") || !of_the_system
}

/// What is wrong with what a command has done.
fn fault(command: &Command, printed: Option<&Printed>, status: i32, shown: &str) -> Option<String> {
    let announced = command
        .text
        .rsplit_once("# exits with ")
        .map(|(_, status)| {
            let status = status.trim().parse::<i32>();
            status.expect("`# exits with` is followed by a number")
        });
    if let Some(printed) = printed
        && let Some(difference) = difference(&printed.text, shown)
    {
        return Some(format!("{difference}as a whole:\n{shown}"));
    }
    match announced {
        Some(announced) if announced != status => {
            return Some(format!("exits with {status}:\n{shown}"));
        }
        // The page shows the failure.
        None if status != 0 && printed.is_none() => {
            return Some(format!("exits with {status}:\n{shown}"));
        }
        _ => {}
    }
    let is_empty = shown.starts_with("no ") && shown.trim_end().ends_with(" match");
    (printed.is_none() && is_empty).then(|| format!("lists nothing:\n{shown}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_has_to_be_announced_or_shown() {
        let fault = |text: &str, printed: Option<&str>, status| {
            let text = text.to_owned();
            let printed = printed.map(|text| Printed {
                line: 2,
                text: text.to_owned(),
            });
            fault(&Command { line: 1, text }, printed.as_ref(), status, "a\n").is_some()
        };
        assert!(!fault("x", None, 0) && fault("x", None, 1));
        assert!(!fault("x  # exits with 1", None, 1) && fault("x  # exits with 1", None, 0));
        assert!(!fault("x", Some("a"), 1) && fault("x", Some("b"), 0));
    }
}
