//! A bash session into which commands are typed, each with a terminal of its own for its output.

use std::{
    collections::HashSet,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::{terminal::Terminal, within};

/// What bash reads before the first command. Jobs have process groups of their own, as in a session
/// of a person.
const START: &str = "echo \"$BASHPID\"\nset -m\ntrap : INT\n";

/// A `cargo` that builds where the tests were built.
const CARGO: &str = r#"#!/usr/bin/env bash
arguments=()
while (($#)); do
    arguments+=("$1")
    # The clone itself, not the view of it: cargo tells packages apart by their paths.
    if [[ $1 == --path && $# -gt 1 ]]; then arguments+=("$(realpath "$2")"); shift; fi
    shift
done
set -- "${arguments[@]}"
case $PWD/ in
    "$DOCS_VIEW"/*)
        folder=$(realpath .)
        [[ $folder == "$(realpath "$DOCS_VIEW")" ]] && folder=$DOCS_CLONE
        case $1 in
            build | check | run | test | tree) set -- "$1" --manifest-path "$folder/Cargo.toml" "${@:2}" ;;
            *) echo "cargo $1 would change the clone" >&2; exit 1 ;;
        esac
        ;;
esac
"$DOCS_CARGO" "$@" || exit
# What a package of the reader's own needs to build offline, and the place of its binaries.
if [[ $1 == new ]]; then
    cp "$DOCS_CLONE/Cargo.lock" "${@: -1}" && ln -s "$CARGO_TARGET_DIR" "${@: -1}/target"
fi
"#;

/// Where a page's sessions are: its folders and its environment.
pub(super) struct Place {
    folder: PathBuf,
    environment: Vec<(String, String)>,
}

impl Place {
    /// In an empty folder: `frestq` in it is a view of the clone, into which a page can write.
    pub(super) fn new(folder: &Path, clone: &Path, nginx: Option<&Path>) -> Self {
        let target = std::env::current_exe().unwrap();
        // target/debug/deps/federation
        let target = target.ancestors().nth(3).unwrap();
        let view = folder.join("frestq");
        let tools = folder.join("tools");
        let scratch = folder.join("tmp");
        for folder in [&view, &tools, &scratch] {
            fs::create_dir(folder).unwrap();
        }
        for entry in fs::read_dir(clone).unwrap() {
            let entry = entry.unwrap();
            let seen = view.join(entry.file_name());
            if entry.file_type().unwrap().is_file() {
                // What a page writes to is a copy.
                fs::copy(entry.path(), seen).unwrap();
            } else if entry.file_name() != "target" {
                std::os::unix::fs::symlink(entry.path(), seen).unwrap();
            }
        }
        std::os::unix::fs::symlink(target, view.join("target")).unwrap();
        let cargo = tools.join("cargo");
        fs::write(&cargo, CARGO).unwrap();
        fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755)).unwrap();
        // On a terminal, curl draws no progress beside what it prints.
        fs::write(tools.join(".curlrc"), "silent\nshow-error\n").unwrap();

        let mut path = vec![tools.clone()];
        path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap()));
        path.extend(nginx.and_then(Path::parent).map(Path::to_owned));
        let path = std::env::join_paths(path).unwrap();
        let program = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let environment = [
            ("PATH", path.into_string().unwrap()),
            ("TMPDIR", text(&scratch)),
            ("CURL_HOME", text(&tools)),
            ("DOCS_VIEW", text(&view)),
            ("DOCS_CLONE", text(clone)),
            ("DOCS_CARGO", program),
            ("CARGO_TARGET_DIR", text(target)),
            ("CARGO_NET_OFFLINE", "true".into()),
            ("CARGO_TERM_COLOR", "never".into()),
            ("CARGO_TERM_PROGRESS_WHEN", "never".into()),
            // As in the workspace, so that both share what they depend on.
            ("CARGO_PROFILE_DEV_DEBUG", "line-tables-only".into()),
            ("NO_COLOR", "1".into()),
            ("TERM", "xterm".into()),
        ];
        let environment = environment.map(|(key, value)| (key.to_owned(), value));
        Self {
            folder: folder.to_owned(),
            environment: environment.into(),
        }
    }

    /// The root of the clone, as the page's sessions see it.
    pub(super) fn view(&self) -> PathBuf {
        self.folder.join("frestq")
    }
}

/// How a command has come on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Running,
    Ended(i32),
}

pub(super) struct Session {
    folder: PathBuf,
    /// The leader of the session that all its processes are in.
    leader: Child,
    /// The bash that runs the commands.
    bash: i32,
    commands: ChildStdin,
    statuses: Receiver<String>,
    count: usize,
    /// The terminals of former commands, to which processes in the background may still write.
    terminals: Vec<Terminal>,
    progress: Progress,
}

impl Session {
    pub(super) fn start(place: &Place, name: &str, directory: &Path) -> Self {
        let folder = place.folder.join(format!("session-{name}"));
        fs::create_dir(&folder).unwrap();
        // The leader of a session would take a terminal that it opens as its own, and be hung up
        // with it. So the bash that runs the commands is not the leader.
        let mut command = Command::new("setsid");
        command
            // Who runs the tests may ignore Ctrl-C, as what a script starts in the background does.
            .args(["env", "--default-signal=INT,QUIT"])
            .args(["bash", "-c", "bash -s; exit"])
            .current_dir(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        for (key, _) in std::env::vars() {
            let of_a_build = key.starts_with("CARGO") && key != "CARGO_HOME";
            if of_a_build || key.starts_with("FRESTQ_") {
                command.env_remove(key);
            }
        }
        command.envs(place.environment.iter().cloned());
        // As a terminal of its own would have it, links included.
        command.env("PWD", directory);
        let mut leader = command.spawn().unwrap();
        let mut commands = leader.stdin.take().unwrap();
        commands.write_all(START.as_bytes()).unwrap();
        let output = BufReader::new(leader.stdout.take().unwrap());
        let (sender, statuses) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let bash = statuses.recv_timeout(Duration::from_secs(10));
        Self {
            folder,
            leader,
            bash: bash.unwrap().parse().unwrap(),
            commands,
            statuses,
            count: 0,
            terminals: Vec::new(),
            progress: Progress::Ended(0),
        }
    }

    /// Types a command; gives the number of its terminal.
    pub(super) fn enter(&mut self, command: &str) -> usize {
        assert_ne!(self.progress, Progress::Running, "the session is busy");
        let terminal = Terminal::open();
        let script = self.folder.join(format!("command-{}", self.count));
        self.count += 1;
        // Before it asks for a command, a shell forgets the jobs that have ended. A `wait` may be
        // typed ahead of that.
        let forget = match command.starts_with("wait") {
            true => "",
            false => "jobs >/dev/null 2>&1\n",
        };
        fs::write(&script, format!("{forget}{command}\n")).unwrap();
        // No loop that would read and run these: Ctrl-C ends a loop.
        let order = format!(
            ". '{}' </dev/null >'{}' 2>&1\necho \"$?\"\n",
            script.display(),
            terminal.path().display()
        );
        self.commands.write_all(order.as_bytes()).unwrap();
        self.terminals.push(terminal);
        self.progress = Progress::Running;
        self.terminals.len() - 1
    }

    /// How the latest command has come on, after so long at most.
    pub(super) fn progress(&mut self, timeout: Duration) -> Progress {
        if self.progress == Progress::Running {
            match self.statuses.recv_timeout(timeout) {
                Ok(status) => {
                    self.progress = Progress::Ended(status.parse().unwrap());
                    self.terminals.last_mut().unwrap().settle();
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => panic!("the session has ended"),
            }
        }
        self.progress
    }

    /// What a command's terminal shows.
    pub(super) fn shown(&self, terminal: usize) -> String {
        self.terminals[terminal].text()
    }

    /// What a command prints that the page does not have.
    pub(super) fn ask(&mut self, command: &str) -> String {
        let terminal = self.enter(command);
        let patience = Duration::from_secs(30);
        assert_ne!(self.progress(patience), Progress::Running, "{command}");
        self.shown(terminal)
    }

    pub(super) fn directory(&mut self) -> PathBuf {
        PathBuf::from(self.ask("pwd").trim())
    }

    /// The processes of the jobs in the background.
    pub(super) fn jobs(&mut self) -> HashSet<i32> {
        let jobs = self.ask("jobs -p");
        jobs.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Presses Ctrl-C, and waits until the command has ended.
    pub(super) fn interrupt(&mut self) {
        let children = format!("/proc/{0}/task/{0}/children", self.bash);
        let children = fs::read_to_string(children).unwrap();
        // The one in the foreground is the last that was started.
        let newest = children.split_whitespace().last();
        if let Some(group) = newest.and_then(|pid| Pid::from_raw(pid.parse().ok()?)) {
            // It may have ended by itself this moment.
            let _ = kill_process_group(group, Signal::INT);
        }
        within(Duration::from_secs(60), "Ctrl-C ends the command", || {
            matches!(self.progress(Duration::from_millis(10)), Progress::Ended(_)).then_some(())
        });
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let session = self.leader.id().to_string();
        // What is killed may have started another process the moment before.
        while let members @ [_, ..] = &*members(&session) {
            for pid in members.iter().filter_map(|pid| Pid::from_raw(*pid)) {
                let _ = kill_process(pid, Signal::KILL);
            }
            let _ = self.leader.try_wait();
        }
        let _ = self.leader.wait();
    }
}

/// The living processes of a session.
fn members(session: &str) -> Vec<i32> {
    let processes = fs::read_dir("/proc").unwrap();
    let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid| {
        let fields = stat(*pid).unwrap_or_default();
        fields.get(3).is_some_and(|id| id == session) && fields[0] != "Z"
    })
    .collect()
}

/// Whether a process has not ended.
pub(super) fn is_alive(pid: i32) -> bool {
    stat(pid).is_some_and(|fields| fields[0] != "Z")
}

/// What Linux says of a process behind its name: state, parent, group, session.
fn stat(pid: i32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    Some(fields.split(' ').map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{docs::clone, harness::Folder};

    const PATIENCE: Duration = Duration::from_secs(30);

    #[test]
    fn a_session_keeps_its_directory_its_variables_and_its_jobs() {
        let folder = Folder::new();
        let place = Place::new(&folder, &clone(), None);
        let mut session = Session::start(&place, "main", &place.view());
        assert_eq!(session.directory(), place.view());
        session.ask("cd \"$(mktemp -d)\"; name=ada; sleep 1000 & sleep 1000 &");
        assert!(session.directory().starts_with(folder.join("tmp")));
        assert_eq!(session.ask("echo $name"), "ada\n");
        let jobs = session.jobs();
        assert_eq!(jobs.len(), 2);
        let stopped = session.ask("kill %1 %2; wait %2; echo $?");
        assert!(stopped.ends_with("143\n"), "{stopped}");
        session.enter("sh -c 'exit 7'");
        assert_eq!(session.progress(PATIENCE), Progress::Ended(7));
        assert_eq!(session.jobs(), HashSet::new());
        assert!(!jobs.into_iter().any(is_alive));
    }

    #[test]
    fn what_runs_is_interrupted_and_in_the_end_killed() {
        let folder = Folder::new();
        let place = Place::new(&folder, &clone(), None);
        let mut session = Session::start(&place, "main", &place.view());
        session.ask("setsid true; sleep 1000 &");
        let jobs = session.jobs();
        session.enter("sleep 1000");
        within(PATIENCE, "it runs", || {
            (members(&session.leader.id().to_string()).len() >= 4).then_some(())
        });
        session.interrupt();
        assert!(jobs.iter().all(|job| is_alive(*job)));
        drop(session);
        assert!(!jobs.into_iter().any(is_alive));
    }
}
