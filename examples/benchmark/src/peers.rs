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

/// How the peers send messages to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Batch,
    /// With batch and mutual TLS.
    Tls,
    OneByOne,
    /// One by one, with mutual TLS.
    OneByOneTls,
}

impl Mode {
    pub(crate) const ALL: [Self; 4] = [Self::Batch, Self::Tls, Self::OneByOne, Self::OneByOneTls];

    pub(crate) fn is_tls(self) -> bool {
        matches!(self, Self::Tls | Self::OneByOneTls)
    }

    fn batch(self) -> &'static str {
        match self {
            Self::Batch | Self::Tls => "256",
            Self::OneByOne | Self::OneByOneTls => "1",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::Batch => "with batch",
            Mode::Tls => "with batch and mutual TLS",
            Mode::OneByOneTls => "one message per request, with mutual TLS",
            Mode::OneByOne => "one message per request, as with an original peer",
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

/// A folder for the databases, next to the build: it is on a disk, not in memory.
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
    a: SocketAddr,
    tls: bool,
    processes: [Running; 2],
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // After an orderly stop the process has gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Peers {
    pub(crate) async fn start(folder: &Path, mode: Mode) -> anyhow::Result<Self> {
        let folder = folder.join(format!("{mode:?}"));
        std::fs::create_dir_all(&folder)?;
        let ports = [("a", free_port()?), ("b", free_port()?)];
        let scheme = if mode.is_tls() { "https" } else { "http" };
        let url = |port| format!("{scheme}://127.0.0.1:{port}/api/queues");
        if mode.is_tls() {
            for (name, _) in ports {
                let mut make = binary(name, &folder)?;
                make.args(["--new-certificate", name]).stdout(Stdio::null());
                ensure!(make.status()?.success(), "--new-certificate failed");
            }
        }
        let start = |name: &str, port: u16| -> anyhow::Result<Running> {
            let mut command = binary(name, &folder)?;
            command
                .env("FRESTQ_PORT", port.to_string())
                .env("FRESTQ_DELIVERY__BATCH", mode.batch())
                .env("FRESTQ_LOG", "warn")
                .env("BENCHMARK_PEER_B", url(ports[1].1));
            if mode.is_tls() {
                command
                    .env("FRESTQ_TLS__CERTIFICATE", format!("{name}.pem"))
                    .env("FRESTQ_TLS__KEY", format!("{name}.key"));
                for (other, port) in ports.iter().filter(|(other, _)| *other != name) {
                    let peer = format!("FRESTQ_PEERS__{}", other.to_uppercase());
                    command
                        .env(format!("{peer}__URL"), url(*port))
                        .env(format!("{peer}__CERTIFICATES"), format!("{other}.pem"))
                        .env(format!("{peer}__ALLOW"), "*")
                        // The driver alone has 256 connections from this machine.
                        .env("FRESTQ_LIMITS__CONNECTIONS_PER_ADDRESS", "4096");
                }
            }
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
        let processes = [
            start(ports[0].0, ports[0].1)?,
            start(ports[1].0, ports[1].1)?,
        ];
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        for (_, port) in ports {
            let deadline = Instant::now() + Duration::from_secs(10);
            while Connection::open(address(port), mode.is_tls())
                .await
                .is_err()
            {
                ensure!(
                    Instant::now() < deadline,
                    "the peer on port {port} does not start"
                );
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(Self {
            a: address(ports[0].1),
            tls: mode.is_tls(),
            processes,
        })
    }

    /// A connection of the driver to A.
    pub(crate) async fn connect(&self) -> anyhow::Result<Connection> {
        Connection::open(self.a, self.tls).await
    }

    /// Stops both. Returns the peak memory of each, in MiB.
    pub(crate) async fn stop(mut self) -> anyhow::Result<(f64, f64)> {
        let [a, b] = &mut self.processes;
        Ok((stop(&mut a.0)?, stop(&mut b.0)?))
    }
}

/// A command that runs a peer's binary in its folder.
fn binary(name: &str, folder: &Path) -> anyhow::Result<Command> {
    let path = std::env::current_exe()?.with_file_name(format!("benchmark_{name}"));
    let mut command = Command::new(path);
    command.current_dir(folder);
    Ok(command)
}

fn stop(process: &mut Child) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id()))?;
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .context("no VmHWM")?;
    let peak: f64 = peak.trim().trim_end_matches(" kB").parse()?;
    ensure!(
        // The shell's own, since not every system has the program.
        Command::new("sh")
            .args(["-c", &format!("kill {}", process.id())])
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
