//! A real peer: the test peer's binary as a process of its own.

use std::{
    fs::File,
    os::unix::process::ExitStatusExt as _,
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::Arc,
};

use reqwest::header::HeaderMap;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::{Database, Folder, Store, eventually, free_port, text, url_of};

const BINARY: &str = env!("CARGO_BIN_EXE_frestq-test-peer");

/// The peers of the examples.
pub(crate) const SYNCHRONIZED_A: &str = env!("CARGO_BIN_EXE_frestq-test-synchronized-a");
pub(crate) const SYNCHRONIZED_B: &str = env!("CARGO_BIN_EXE_frestq-test-synchronized-b");
pub(crate) const TASKTREE_A: &str = env!("CARGO_BIN_EXE_frestq-test-tasktree-a");
pub(crate) const TASKTREE_B: &str = env!("CARGO_BIN_EXE_frestq-test-tasktree-b");
pub(crate) const EXTERNAL_A: &str = env!("CARGO_BIN_EXE_frestq-test-external-a");
pub(crate) const EXTERNAL_B: &str = env!("CARGO_BIN_EXE_frestq-test-external-b");
pub(crate) const ERRORHANDLING: &str = env!("CARGO_BIN_EXE_frestq-test-errorhandling");
pub(crate) const HELLOSSL_A: &str = env!("CARGO_BIN_EXE_frestq-test-hellossl-a");
pub(crate) const HELLOSSL_B: &str = env!("CARGO_BIN_EXE_frestq-test-hellossl-b");

/// What a request was answered.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    /// The body as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body)
            .unwrap_or_else(|e| panic!("{e}: {} {:?}", self.status, self.body))
    }

    /// The words of a refusal.
    #[track_caller]
    pub(crate) fn refusal(&self) -> String {
        let json = self.json();
        assert_eq!(json.as_object().unwrap().len(), 1, "{json}");
        text(&json, "message").to_owned()
    }
}

/// A peer, running or not. Its process is killed with this value.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) port: u16,
    pub(crate) url: String,
    pub(crate) database: Arc<Database>,
    pub(crate) http: reqwest::Client,
    binary: &'static str,
    settings: Vec<(String, String)>,
    process: Option<Child>,
    folder: Arc<Folder>,
}

impl Peer {
    /// A peer that is not running and has no tables yet.
    pub(crate) async fn new(store: &Store, name: &'static str) -> Self {
        let folder = Folder::new();
        let port = free_port();
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(super::PATIENCE)
            // Peers with certificates of their own are among these.
            .danger_accept_invalid_certs(true)
            .no_proxy();
        Self {
            name,
            port,
            url: url_of(port),
            database: Arc::new(Database::new(store, &folder).await),
            http: http.build().unwrap(),
            binary: BINARY,
            settings: Vec::new(),
            process: None,
            folder: Arc::new(folder),
        }
    }

    /// A peer of an example, with tables and not running.
    pub(crate) async fn example(store: &Store, name: &'static str, binary: &'static str) -> Self {
        let mut peer = Self::new(store, name).await;
        peer.binary = binary;
        peer.createdb();
        peer
    }

    /// A running peer.
    pub(crate) async fn start(store: &Store, name: &'static str) -> Self {
        Self::start_with(store, name, &[]).await
    }

    /// A running peer with settings in its environment.
    pub(crate) async fn start_with(
        store: &Store,
        name: &'static str,
        settings: &[(&str, &str)],
    ) -> Self {
        let mut peer = Self::new(store, name).await;
        for (key, value) in settings {
            peer.set(key, value);
        }
        peer.createdb();
        peer.run().await;
        peer
    }

    /// Another process of the same peer: its database, its folder, another port.
    pub(crate) fn second(&self, name: &'static str) -> Self {
        let port = free_port();
        Self {
            name,
            port,
            url: url_of(port),
            database: self.database.clone(),
            http: self.http.clone(),
            binary: self.binary,
            settings: self.settings.clone(),
            process: None,
            folder: self.folder.clone(),
        }
    }

    /// Sets a variable of its environment, for the next start.
    pub(crate) fn set(&mut self, key: &str, value: &str) {
        self.settings.push((key.to_owned(), value.to_owned()));
    }

    /// Takes a variable out of its environment, for the next start.
    pub(crate) fn unset(&mut self, key: &str) {
        self.settings.retain(|(known, _)| known != key);
    }

    /// Its binary with its environment.
    fn command(&self) -> Command {
        let mut command = Command::new(self.binary);
        for (key, _) in std::env::vars().filter(|(key, _)| key.starts_with("FRESTQ_")) {
            command.env_remove(key);
        }
        command
            .current_dir(&**self.folder)
            .env("FRESTQ_DATABASE", self.database.url())
            .env("FRESTQ_PORT", self.port.to_string())
            .env("TEST_DIR", &**self.folder)
            .env("NO_COLOR", "1")
            .envs(self.settings.iter().cloned())
            .stdin(Stdio::null());
        command
    }

    /// Runs its binary with these arguments, to the end.
    pub(crate) fn cli(&self, arguments: &[&str]) -> Output {
        self.command().args(arguments).output().unwrap()
    }

    /// Makes its tables.
    #[track_caller]
    pub(crate) fn createdb(&self) {
        let output = self.cli(&["--createdb"]);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Starts its process and waits until it answers.
    pub(crate) async fn run(&mut self) {
        self.spawn();
        let ready = self.view("/ready");
        eventually("the peer answers", async || {
            if let Some(status) = self.process.as_mut().unwrap().try_wait().unwrap() {
                panic!("peer {} ended with {status}:\n{}", self.name, self.log());
            }
            self.http.get(&ready).send().await.ok()
        })
        .await;
    }

    /// Starts its process.
    pub(crate) fn spawn(&mut self) {
        assert!(self.process.is_none(), "peer {} runs already", self.name);
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_file())
            .unwrap();
        let mut command = self.command();
        command.stdout(log.try_clone().unwrap()).stderr(log);
        self.process = Some(command.spawn().unwrap());
    }

    /// A file in its folder.
    pub(crate) fn file(&self, name: &str) -> std::path::PathBuf {
        self.folder.join(name)
    }

    fn log_file(&self) -> std::path::PathBuf {
        self.folder.join(format!("{}.log", self.name))
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Asks it to stop.
    pub(crate) fn terminate(&self) {
        let process = self.process.as_ref().unwrap();
        kill_process(Pid::from_child(process), Signal::TERM).unwrap();
    }

    /// Asks it to read its certificates and peers again.
    pub(crate) fn hang_up(&self) {
        let process = self.process.as_ref().unwrap();
        kill_process(Pid::from_child(process), Signal::HUP).unwrap();
    }

    /// Waits until its process has ended.
    pub(crate) async fn ended_process(&mut self) -> ExitStatus {
        let process = self.process.as_mut().unwrap();
        let status = eventually("the process ends", async || process.try_wait().unwrap()).await;
        self.process = None;
        status
    }

    /// Asks it to stop and waits until it has, in good order.
    pub(crate) async fn stop(&mut self) {
        self.terminate();
        let status = self.ended_process().await;
        assert_eq!(
            (status.code(), status.signal()),
            (Some(0), None),
            "{}",
            self.log()
        );
    }

    /// The most memory that its process has had so far, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        let process = self.process.as_ref().unwrap().id();
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.unwrap().trim().trim_end_matches(" kB");
        kilobytes.parse::<u64>().unwrap() * 1024
    }

    /// Whether its process runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.process
            .as_mut()
            .is_some_and(|process| process.try_wait().unwrap().is_none())
    }

    /// Posts a body to one of its queues, as an original peer does: without a `Content-Type`.
    pub(crate) async fn post(&self, queue: &str, body: impl Into<reqwest::Body>) -> Answer {
        let request = self.http.post(format!("{}/{queue}/", self.url));
        self.ask(request.body(body)).await.unwrap()
    }

    /// Posts a message to one of its queues.
    pub(crate) async fn deliver(&self, queue: &str, message: &Value) -> Answer {
        self.post(queue, message.to_string()).await
    }

    /// Sends any request.
    pub(crate) async fn ask(&self, request: reqwest::RequestBuilder) -> reqwest::Result<Answer> {
        let response = request.send().await?;
        Ok(Answer {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: response.text().await?,
        })
    }

    /// The address of one of its views.
    pub(crate) fn view(&self, path: &str) -> String {
        let scheme = self.url.split(':').next().unwrap();
        format!("{scheme}://127.0.0.1:{}{path}", self.port)
    }

    /// Posts nothing to one of its views.
    pub(crate) async fn press(&self, path: &str) -> Answer {
        self.ask(self.http.post(self.view(path))).await.unwrap()
    }

    /// Lets a peer of an example say hello; gives the task's id.
    pub(crate) async fn say_hello(&self, username: &str) -> String {
        let answer = self.press(&format!("/say/hello/{username}")).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body.trim().to_owned()
    }

    /// Lets it send a task; gives the task's id.
    pub(crate) async fn send(&self, to: &str, queue: &str, action: &str, data: Value) -> String {
        let order = json!({"to": to, "queue": queue, "action": action, "data": data});
        self.order(&order).await
    }

    /// Lets it send a task with options.
    pub(crate) async fn order(&self, order: &Value) -> String {
        let answer = self.try_order(order).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
        text(&answer.json(), "id").to_owned()
    }

    /// Lets it send a task, which it may refuse, or die over.
    pub(crate) async fn try_order(&self, order: &Value) -> reqwest::Result<Answer> {
        let request = self.http.post(self.view("/send"));
        let request = request
            .header("content-type", "application/json")
            .body(order.to_string());
        self.ask(request).await
    }

    /// Lets it send a task; gives what the task's handle gave: `output` or `failed`.
    pub(crate) async fn call(&self, to: &str, queue: &str, action: &str, data: Value) -> Value {
        let order = json!({"to": to, "queue": queue, "action": action, "data": data});
        let request = self.http.post(self.view("/call"));
        let request = request
            .header("content-type", "application/json")
            .body(order.to_string());
        let answer = self.ask(request).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()
    }

    /// Lets it send a tree, as the test peer's plans say it; gives the root's id.
    pub(crate) async fn plant(&self, plan: &Value) -> String {
        let request = self.http.post(self.view("/plant"));
        let request = request
            .header("content-type", "application/json")
            .body(plan.to_string());
        let answer = self.ask(request).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
        text(&answer.json(), "id").to_owned()
    }

    /// All its tasks, as its command line lists them.
    pub(crate) fn tasks(&self) -> Vec<Value> {
        let listed = self.cli(&["--tasks", "--json", "--limit", "1000"]);
        serde_json::from_slice(&listed.stdout).unwrap()
    }

    /// Its tasks of an action.
    pub(crate) fn tasks_of(&self, action: &str) -> Vec<Value> {
        let mut tasks = self.tasks();
        tasks.retain(|task| task["action"] == action);
        tasks
    }

    /// Its only task of an action.
    #[track_caller]
    pub(crate) fn task_of(&self, action: &str) -> Value {
        let tasks = self.tasks_of(action);
        assert_eq!(tasks.len(), 1, "{action}: {tasks:?}");
        tasks[0].clone()
    }

    /// A task as this peer has it, if it does.
    pub(crate) async fn find_task(&self, id: &str) -> Option<Value> {
        if self.binary != BINARY {
            // The examples have no view for it.
            let shown = self.cli(&["--show-task", id, "--json"]);
            return serde_json::from_slice(&shown.stdout).ok();
        }
        let answer = self.ask(self.http.get(self.view(&format!("/task/{id}"))));
        let answer = answer.await.unwrap();
        match answer.status {
            404 => None,
            200 => Some(answer.json()),
            status => panic!("{status}: {}", answer.body),
        }
    }

    /// A task that this peer has.
    #[track_caller]
    pub(crate) fn task(&self, id: &str) -> impl Future<Output = Value> {
        let id = id.to_owned();
        async move {
            let task = self.find_task(&id).await;
            task.unwrap_or_else(|| panic!("peer {} has no task {id}", self.name))
        }
    }

    /// Waits until a task has a status.
    pub(crate) async fn reaches(&self, id: &str, status: &str) -> Value {
        eventually(&format!("{id} becomes {status}"), async || {
            let task = self.find_task(id).await?;
            let ended = ["finished", "error", "expired", "cancelled", "undeliverable"]
                .iter()
                .any(|end| task["status"] == **end);
            let there = task["status"] == status;
            assert!(there || !ended, "not {status}: {task}");
            there.then_some(task)
        })
        .await
    }

    /// Waits until a task is finished; gives its output.
    pub(crate) async fn output(&self, id: &str) -> Value {
        self.reaches(id, "finished").await["output_data"].clone()
    }

    /// Waits until a task has failed; gives its error.
    pub(crate) async fn error(&self, id: &str) -> Value {
        self.reaches(id, "error").await["output_data"].clone()
    }

    /// How often the handler of a task was started, as its traces say.
    pub(crate) fn runs(&self, id: &str) -> usize {
        let prefix = format!("run-{id}-");
        let files = std::fs::read_dir(&**self.folder).unwrap();
        files
            .filter(|file| {
                let name = file.as_ref().unwrap().file_name();
                name.to_string_lossy().starts_with(&prefix)
            })
            .count()
    }

    /// Waits until the handler of a task was started so often.
    pub(crate) async fn started(&self, id: &str, runs: usize) {
        super::until(&format!("{id} is running"), async || self.runs(id) == runs).await;
    }

    /// How many files its handlers have left whose names begin like this.
    pub(crate) fn files(&self, prefix: &str) -> usize {
        let files = std::fs::read_dir(&**self.folder).unwrap();
        let names = files.map(|file| file.unwrap().file_name());
        names
            .filter(|name| name.to_string_lossy().starts_with(prefix))
            .count()
    }

    /// Whether the handler of a task has seen that it was called off.
    pub(crate) fn has_stopped(&self, id: &str) -> bool {
        self.folder.join(format!("cancelled-{id}")).exists()
    }

    /// Lets the handlers go that wait for this gate.
    pub(crate) fn open(&self, gate: &str) {
        File::create(self.folder.join(format!("gate-{gate}"))).unwrap();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let running = self.process.is_some();
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<_> = log.lines().rev().take(25).collect();
            eprintln!(
                "--- peer {} (running: {running}), end of its log",
                self.name
            );
            for line in tail.iter().rev() {
                eprintln!("{}", line.chars().take(300).collect::<String>());
            }
        }
    }
}
