//! Peers A and B as processes.

use std::{
    fmt,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};

use crate::load::Connection;

/// How the peers talk.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Batch,
    OneByOne,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::Batch => "with batch",
            Mode::OneByOne => "one message a request, as with an original peer",
        })
    }
}

/// Builds the peers, which `cargo run` alone does not.
pub(crate) fn build() -> anyhow::Result<()> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "--package", "benchmark", "--bins"]);
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    ensure!(build.status()?.success(), "the peers can't be built");
    Ok(())
}

/// A folder for databases, on the disk that the build is on and not in memory.
pub(crate) fn scratch() -> anyhow::Result<PathBuf> {
    let target = std::env::current_exe()?;
    let folder = target
        .parent()
        .context("no folder")?
        .join(format!("benchmark-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

pub(crate) struct Peers {
    pub(crate) a: SocketAddr,
    processes: [Running; 2],
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Gone already, if it was stopped in order.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Peers {
    pub(crate) async fn start(folder: &Path, mode: Mode) -> anyhow::Result<Self> {
        let folder = folder.join(if mode == Mode::Batch {
            "batch"
        } else {
            "single"
        });
        std::fs::create_dir_all(&folder)?;
        let (a, b) = (free_port()?, free_port()?);
        let start = |name: &str, port: u16| -> anyhow::Result<Running> {
            let mut command =
                Command::new(std::env::current_exe()?.with_file_name(format!("benchmark_{name}")));
            command
                .current_dir(&folder)
                .env("FRESTQ_PORT", port.to_string())
                .env(
                    "FRESTQ_DELIVERY__BATCH",
                    if mode == Mode::Batch { "256" } else { "1" },
                )
                .env("FRESTQ_LOG", "warn")
                .env(
                    "BENCHMARK_PEER_B",
                    format!("http://127.0.0.1:{b}/api/queues"),
                );
            ensure!(
                command
                    .arg("--createdb")
                    .stdout(Stdio::null())
                    .status()?
                    .success(),
                "--createdb failed"
            );
            let mut serve = Command::new(command.get_program());
            serve.current_dir(&folder).stdin(Stdio::null());
            for (key, value) in command.get_envs() {
                serve.env(key, value.unwrap_or_default());
            }
            Ok(Running(serve.spawn()?))
        };
        let processes = [start("a", a)?, start("b", b)?];
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        for port in [a, b] {
            let deadline = Instant::now() + Duration::from_secs(10);
            while Connection::open(address(port)).await.is_err() {
                ensure!(
                    Instant::now() < deadline,
                    "the peer on port {port} does not start"
                );
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(Self {
            a: address(a),
            processes,
        })
    }

    /// Stops both, and gives the most memory that each had, in MiB.
    pub(crate) async fn stop(mut self) -> anyhow::Result<(f64, f64)> {
        let [a, b] = &mut self.processes;
        Ok((stop(&mut a.0)?, stop(&mut b.0)?))
    }
}

fn stop(process: &mut Child) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id()))?;
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .context("no VmHWM")?;
    let peak: f64 = peak.trim().trim_end_matches(" kB").parse()?;
    ensure!(
        Command::new("kill")
            .arg(process.id().to_string())
            .status()?
            .success(),
        "kill failed"
    );
    ensure!(process.wait()?.success(), "a peer did not stop in order");
    Ok(peak / 1024.0)
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
