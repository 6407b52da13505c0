//! The demonstration: `cargo run -p helloworld` starts peers A and B, two processes with a
//! database each. A sends a task to B. Every step is shown until A has B's answer. Then both
//! stop.

use std::{
    io::{IsTerminal, stdout},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
    time::{Duration, SystemTime},
};

use anyhow::{Context, bail, ensure};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader, Lines},
    net::TcpStream,
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
    task::JoinHandle,
    time::timeout,
};

/// The output that A must have in the end.
const ANSWER: &str = "hello richard.stallman!";

/// How long everything else may take, apart from B's handler.
const PATIENCE: Duration = Duration::from_secs(60);

/// Who writes a line: a name, and its colour on a terminal.
#[derive(Clone, Copy)]
struct Voice(&'static str, u8);

const DEMO: Voice = Voice("demo", 32);

impl Voice {
    fn say(self, line: &str) {
        let Voice(name, colour) = self;
        if stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
            println!("\x1b[{colour}m{name:>4} |\x1b[0m {line}");
        } else {
            println!("{name:>4} | {line}");
        }
    }

    /// Prints each line as it arrives.
    async fn repeat<R>(self, mut lines: Lines<BufReader<R>>) -> std::io::Result<()>
    where
        R: AsyncRead + Unpin,
    {
        while let Some(line) = lines.next_line().await? {
            self.say(&line);
        }
        Ok(())
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    // However this ends, dropping the other future kills the processes and removes their folder.
    let outcome = tokio::select! {
        outcome = demonstrate() => outcome,
        outcome = stop_signal() => outcome,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{:>4} | FAILED: {error:#}", DEMO.0);
            ExitCode::FAILURE
        }
    }
}

async fn demonstrate() -> anyhow::Result<()> {
    DEMO.say("building peers A and B");
    let programs = build().await?;
    let folder = Folder::new()?;
    let a = Peer::new(Voice("A", 36), 5000, &programs, &folder);
    let b = Peer::new(Voice("B", 33), 5001, &programs, &folder);
    timeout(work()? + PATIENCE, hello(&a, &b))
        .await
        .context("the answer did not arrive in time; the lines above show how far it went")?
}

async fn hello(a: &Peer, b: &Peer) -> anyhow::Result<()> {
    DEMO.say("two peers, two databases: each peer creates its own");
    a.run(&["--createdb"]).await?;
    b.run(&["--createdb"]).await?;
    DEMO.say("starting both, as two processes: A on port 5000, B on port 5001");
    let b_serves = b.serve().await?;
    let a_serves = a.serve().await?;

    DEMO.say("a client asks A to have B say hello:");
    DEMO.say("  curl -X POST http://127.0.0.1:5000/say/hello/richard.stallman");
    let task = post(a.port, "/say/hello/richard.stallman").await?;
    DEMO.say(&format!("A has stored task {task} and sends it to B;"));
    DEMO.say(&format!("following it: helloworld_a --watch {task}"));
    a.run(&["--watch", &task]).await?;

    let output = a.output_of(&task).await?;
    ensure!(output == ANSWER, "A has {output:?}, not {ANSWER:?}");
    DEMO.say("the task has ended on A too; stopping both");
    a_serves.stop().await?;
    b_serves.stop().await?;
    DEMO.say(&format!(
        "DONE: A asked, B did the work, and A's database has the answer: {output}"
    ));
    Ok(())
}

/// Builds the two peers, which `cargo run` alone does not. Returns their folder.
async fn build() -> anyhow::Result<PathBuf> {
    let this = std::env::current_exe()?;
    let programs = this.parent().context("this program is in no folder")?;
    let profile = match programs.file_name().and_then(|name| name.to_str()) {
        None | Some("debug") => "dev",
        Some(profile) => profile,
    };
    let status = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()))
        .args(["build", "--quiet", "--bins", "--profile", profile])
        .args([
            "--manifest-path",
            concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"),
        ])
        .kill_on_drop(true)
        .status()
        .await
        .context("cargo does not start")?;
    ensure!(status.success(), "the peers can't be built");
    Ok(programs.to_owned())
}

/// One of the two peers.
struct Peer {
    voice: Voice,
    port: u16,
    program: PathBuf,
    folder: PathBuf,
}

impl Peer {
    fn new(voice: Voice, port: u16, programs: &Path, folder: &Folder) -> Self {
        let name = format!("helloworld_{}", voice.0.to_lowercase());
        Self {
            voice,
            port,
            program: programs.join(name),
            folder: folder.0.clone(),
        }
    }

    /// Its program, run in the folder of the demonstration. The environment changes no settings.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .current_dir(&self.folder)
            .env_remove("PEER_B")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        for (key, _) in std::env::vars_os() {
            if key.to_string_lossy().starts_with("FRESTQ_") {
                command.env_remove(key);
            }
        }
        command
    }

    /// Runs it with flags until it exits, and shows its output.
    async fn run(&self, flags: &[&str]) -> anyhow::Result<()> {
        let mut process = self.start(self.command().args(flags))?;
        let output = process.stdout.take().context("no standard output")?;
        self.voice.repeat(BufReader::new(output).lines()).await?;
        let status = process.wait().await?;
        let name = self.voice.0;
        ensure!(status.success(), "peer {name} {flags:?}: {status}");
        Ok(())
    }

    /// The output of a task, from its database.
    async fn output_of(&self, task: &str) -> anyhow::Result<String> {
        let shown = self
            .command()
            .args(["--show-task", task, "--json"])
            .output();
        let record: serde_json::Value = serde_json::from_slice(&shown.await?.stdout)?;
        let output = record["output_data"].as_str();
        Ok(output.context("the task has no output")?.to_owned())
    }

    /// Starts it. Returns when its log says that it is serving.
    async fn serve(&self) -> anyhow::Result<Serving> {
        let (name, port) = (self.voice.0, self.port);
        TcpListener::bind(("127.0.0.1", port)).with_context(|| {
            format!("port {port} of peer {name} is not free: does another process listen there?")
        })?;
        let mut process = self.start(self.command().stderr(Stdio::piped()))?;
        let log = process.stderr.take().context("no standard error")?;
        let mut log = BufReader::new(log).lines();
        loop {
            let Some(line) = log.next_line().await? else {
                bail!("peer {name} did not start: {}", process.wait().await?);
            };
            self.voice.say(&line);
            if line.contains(" serving ") {
                break;
            }
        }
        let log = tokio::spawn(self.voice.repeat(log));
        Ok(Serving { name, process, log })
    }

    fn start(&self, command: &mut Command) -> anyhow::Result<Child> {
        command
            .spawn()
            .with_context(|| format!("{} does not start", self.program.display()))
    }
}

/// A running peer.
struct Serving {
    name: &'static str,
    process: Child,
    log: JoinHandle<std::io::Result<()>>,
}

impl Serving {
    /// Asks it to stop, and waits until it has stopped.
    async fn stop(mut self) -> anyhow::Result<()> {
        let pid = self.process.id().context("a peer has stopped by itself")?;
        // The shell's own `kill`, since not every system has the program.
        let kill = Command::new("sh")
            .args(["-c", &format!("kill -TERM {pid}")])
            .status();
        ensure!(kill.await?.success(), "peer {} can't be stopped", self.name);
        let status = self.process.wait().await?;
        self.log.await??;
        ensure!(status.success(), "peer {} ended with {status}", self.name);
        Ok(())
    }
}

/// Does what `curl -X POST` does. Returns the body of the response.
async fn post(port: u16, path: &str) -> anyhow::Result<String> {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).await?;
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    connection.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200 ") => Ok(body.trim().to_owned()),
        _ => bail!("A answered {answer:?}"),
    }
}

/// How long B's handler works.
fn work() -> anyhow::Result<Duration> {
    let seconds = std::env::var("DEMO_SLEEP_SECONDS").unwrap_or_else(|_| "5".into());
    let work = seconds.parse().ok().map(Duration::try_from_secs_f64);
    match work {
        Some(Ok(work)) => Ok(work),
        _ => bail!("DEMO_SLEEP_SECONDS is {seconds:?}, not a number of seconds"),
    }
}

/// A temporary folder for the databases. It is removed when this value is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> anyhow::Result<Self> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        let path = std::env::temp_dir().join(format!("helloworld-{}", now.as_nanos()));
        std::fs::create_dir(&path).with_context(|| format!("{} can't be made", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A leftover folder does no harm.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Fails on SIGTERM or Ctrl-C.
async fn stop_signal() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => bail!("SIGTERM"),
        _ = interrupt.recv() => bail!("Ctrl-C"),
    }
}
