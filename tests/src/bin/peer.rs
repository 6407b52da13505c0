//! The peer that the tests run: handlers that succeed, fail, panic, block, and wait for a sign from
//! the test; views through which the test sends tasks and reads what became of them.
//!
//! What a handler does outside of the database is a file in the folder `TEST_DIR`, so that a test
//! sees each run of it, whatever happens to this process.

use std::{
    fs,
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use axum::{Json, response::IntoResponse};
use frestq::{Compose, Error, Node, TaskId, prelude::*};
use serde_json::{Value, json};

/// How often a handler looks for the test's sign.
const LOOK: Duration = Duration::from_millis(10);

/// The folder of this test.
fn folder() -> anyhow::Result<PathBuf> {
    Ok(std::env::var_os("TEST_DIR")
        .ok_or_else(|| anyhow::anyhow!("TEST_DIR is not set"))?
        .into())
}

/// Leaves a file for this run of the task.
fn leave_trace(task: &Task) -> anyhow::Result<()> {
    let name = format!("run-{}-{}", task.id(), task.attempt());
    Ok(fs::write(folder()?.join(name), "")?)
}

/// A sign that the test gives by making the file `gate-NAME`.
#[derive(Deserialize)]
struct Gate {
    gate: String,
}

impl Gate {
    fn is_open(&self) -> anyhow::Result<bool> {
        Ok(folder()?.join(format!("gate-{}", self.gate)).exists())
    }

    async fn wait(&self) -> anyhow::Result<()> {
        while !self.is_open()? {
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct Hello {
    username: String,
}

#[frestq::task(queue = "say_queue", action = "hello_world")]
async fn hello_world(input: Hello) -> anyhow::Result<String> {
    Ok(format!("hello {}!", input.username))
}

#[frestq::task(queue = "work", action = "echo")]
async fn echo(input: Box<serde_json::value::RawValue>, task: Task) -> anyhow::Result<frestq::Json> {
    leave_trace(&task)?;
    Ok(input)
}

#[frestq::task(queue = "work", action = "wait")]
async fn wait(gate: Gate, task: Task) -> anyhow::Result<u32> {
    leave_trace(&task)?;
    gate.wait().await?;
    Ok(task.attempt())
}

/// Says how far it is, and waits.
#[frestq::task(queue = "work", action = "report")]
async fn report(gate: Gate, task: Task) -> anyhow::Result<()> {
    task.progress(0.4, "mixing").await?;
    gate.wait().await
}

/// Blocks its thread, as no handler should.
#[frestq::task(queue = "blocking", action = "block")]
async fn block(gate: Gate, task: Task) -> anyhow::Result<u32> {
    leave_trace(&task)?;
    while !gate.is_open()? {
        std::thread::sleep(LOOK);
    }
    Ok(task.attempt())
}

#[frestq::task(queue = "work", action = "fail")]
async fn fail(message: String, task: Task) -> anyhow::Result<()> {
    leave_trace(&task)?;
    Err(anyhow::anyhow!("{message}").context("failed as told"))
}

/// Fails with just these words.
#[frestq::task(queue = "work", action = "refuse")]
async fn refuse(message: String) -> Result<(), TaskError> {
    Err(TaskError::new("told", message))
}

#[frestq::task(queue = "work", action = "coded")]
async fn coded() -> Result<(), TaskError> {
    Err(TaskError::new("no_votes", "the ballot box is empty").with_data(&json!({"votes": 0})))
}

#[frestq::task(queue = "work", action = "panic")]
async fn panic(message: String, task: Task) -> anyhow::Result<()> {
    leave_trace(&task)?;
    std::panic::panic_any(message)
}

#[derive(Deserialize)]
struct Flaky {
    fails: u32,
}

/// Fails so many times, and has written a row each time.
#[frestq::task(queue = "work", action = "flaky", retries = 1)]
async fn flaky(input: Flaky, task: Task) -> anyhow::Result<u32> {
    leave_trace(&task)?;
    count_once(&task, i64::from(task.attempt()));
    anyhow::ensure!(task.attempt() > input.fails, "attempt {}", task.attempt());
    Ok(task.attempt())
}

#[frestq::task(queue = "work", action = "once", at_most_once)]
async fn once(gate: Gate, task: Task) -> anyhow::Result<u32> {
    leave_trace(&task)?;
    gate.wait().await?;
    Ok(task.attempt())
}

/// Two runs at the most.
#[frestq::task(queue = "work", action = "twice", max_attempts = 2)]
async fn twice(gate: Gate, task: Task) -> anyhow::Result<u32> {
    leave_trace(&task)?;
    gate.wait().await?;
    Ok(task.attempt())
}

#[frestq::task(queue = "work", action = "limited", timeout = "300ms")]
async fn limited(gate: Gate, task: Task) -> anyhow::Result<()> {
    leave_trace(&task)?;
    gate.wait().await
}

fn count_once(task: &Task, n: i64) {
    task.transaction(|tx| {
        tx.execute(
            "INSERT INTO counted (task, n) VALUES ($1, $2)",
            (task.id().as_str(), n),
        );
    });
}

#[derive(Deserialize)]
struct Count {
    n: i64,
}

#[frestq::task(queue = "work", action = "count")]
async fn count(input: Count, task: Task) -> anyhow::Result<i64> {
    count_once(&task, input.n);
    Ok(input.n * 2)
}

#[derive(Deserialize)]
struct Statements {
    statements: Vec<String>,
}

/// Whatever the test wants to see in a transaction, after a good row.
#[frestq::task(queue = "work", action = "statements")]
async fn statements(input: Statements, task: Task) -> anyhow::Result<()> {
    leave_trace(&task)?;
    count_once(&task, 0);
    task.transaction(|tx| {
        for statement in input.statements {
            tx.execute(statement, ());
        }
    });
    Ok(())
}

#[frestq::task(queue = "work", action = "big")]
async fn big(bytes: usize) -> anyhow::Result<String> {
    Ok("x".repeat(bytes))
}

#[derive(Serialize, Deserialize)]
struct Ballot {
    voter: Voter,
}

#[derive(Serialize, Deserialize)]
struct Voter {
    age: u8,
}

#[frestq::task(queue = "work", action = "typed")]
async fn typed(ballot: Ballot) -> anyhow::Result<u8> {
    Ok(ballot.voter.age)
}

#[frestq::task(queue = "work", action = "private", local)]
async fn private() -> anyhow::Result<String> {
    Ok("ours".into())
}

/// Who sent it, as the handler sees it.
#[frestq::task(queue = "work", action = "whose")]
async fn whose(task: Task) -> anyhow::Result<Value> {
    let sender = task.sender();
    Ok(json!({
        "url": sender.url(),
        "name": sender.name(),
        "certificate": sender.certificate(),
    }))
}

static RUNNING: AtomicUsize = AtomicUsize::new(0);
static MOST_RUNNING: AtomicUsize = AtomicUsize::new(0);

#[frestq::task(queue = "narrow", action = "wait")]
async fn narrow(gate: Gate, task: Task) -> anyhow::Result<()> {
    let running = RUNNING.fetch_add(1, Ordering::SeqCst) + 1;
    MOST_RUNNING.fetch_max(running, Ordering::SeqCst);
    leave_trace(&task)?;
    gate.wait().await?;
    RUNNING.fetch_sub(1, Ordering::SeqCst);
    Ok(())
}

#[frestq::message(queue = "work", action = "note")]
async fn note(message: Message, task: Task) -> anyhow::Result<()> {
    let text = message.data.get().to_owned();
    task.transaction(|tx| {
        tx.execute(
            "INSERT INTO noted (message, sender, text) VALUES ($1, $2, $3)",
            (message.id.as_str(), message.sender.as_str(), text),
        );
    });
    Ok(())
}

/// A tree that the test wants.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Plan {
    Task {
        to: String,
        queue: String,
        action: String,
        #[serde(default)]
        data: Value,
        #[serde(default)]
        priority: i32,
        label: Option<String>,
        expires_in_ms: Option<u64>,
        pingback_in_ms: Option<u64>,
        pin: Option<String>,
    },
    /// A task that waits for a person, for so long.
    ShortExternal {
        ms: u64,
    },
    Sequential(Vec<Plan>),
    /// A sequence that expires.
    Within {
        ms: u64,
        plans: Vec<Plan>,
    },
    Parallel(Vec<Plan>),
    /// A parallel group that waits for all.
    All(Vec<Plan>),
    /// A synchronized group, of tasks only.
    Synchronized(Vec<Plan>),
    /// What a person decides.
    External,
}

impl Compose for Plan {
    type Output = Value;

    fn into_node(self) -> Node {
        match self {
            Plan::Task {
                to,
                queue,
                action,
                data,
                priority,
                label,
                expires_in_ms,
                pingback_in_ms,
                pin,
            } => {
                let mut task = planned(to, queue, action, data, pin).priority(priority);
                if let Some(label) = label {
                    task = task.label(label);
                }
                if let Some(ms) = expires_in_ms {
                    task = task.expires_in(Duration::from_millis(ms));
                }
                if let Some(ms) = pingback_in_ms {
                    task = task.pingback_in(Duration::from_millis(ms));
                }
                task.into_node()
            }
            Plan::ShortExternal { ms } => External::new()
                .expires_in(Duration::from_millis(ms))
                .into_node(),
            Plan::Sequential(plans) => plans
                .into_iter()
                .fold(Sequential::new(), Sequential::add)
                .into_node(),
            Plan::Within { ms, plans } => plans
                .into_iter()
                .fold(Sequential::new(), Sequential::add)
                .expires_in(Duration::from_millis(ms))
                .into_node(),
            Plan::Parallel(plans) => parallel(plans).into_node(),
            Plan::Synchronized(plans) => plans
                .into_iter()
                .fold(Synchronized::<Conductor>::new(), |group, plan| match plan {
                    Plan::Task {
                        to,
                        queue,
                        action,
                        data,
                        pin,
                        ..
                    } => group.add(planned(to, queue, action, data, pin)),
                    _ => group,
                })
                .into_node(),
            Plan::External => External::new().into_node(),
            Plan::All(plans) => parallel(plans).wait_for_all().into_node(),
        }
    }
}

fn planned(
    to: String,
    queue: String,
    action: String,
    data: Value,
    pin: Option<String>,
) -> SimpleTask {
    let task: SimpleTask = SimpleTask::new(to, queue, action).data(data);
    match pin {
        Some(certificate) => task.pin(certificate),
        None => task,
    }
}

fn parallel(plans: Vec<Plan>) -> Parallel {
    plans.into_iter().fold(Parallel::new(), Parallel::add)
}

/// Sees that everybody's reservation is there, and tells all of them which round it is.
#[derive(Default)]
struct Conductor;

#[frestq::director(name = "conductor")]
impl Director for Conductor {
    async fn pre_execute(&self, group: &mut Group) -> anyhow::Result<()> {
        for subtask in group.subtasks() {
            subtask.reservation::<TaskId>()?;
        }
        let rounds = group.round();
        for subtask in group.subtasks_mut() {
            if subtask.input::<Value>()?["fails"] == "pre_execute" {
                anyhow::bail!("the conductor is ill");
            }
            let input: Value = subtask.input()?;
            subtask.set_input(json!({"rounds": rounds, "asked": input}))?;
        }
        Ok(())
    }
}

/// Reserves, at first in vain if told so, and leaves files that say what it holds.
#[derive(Default)]
struct Play {
    refusals: AtomicUsize,
}

#[frestq::task(queue = "stage", action = "play")]
impl Handler for Play {
    type Input = Value;
    type Output = Value;
    type Reservation = TaskId;

    async fn reserve(&self, task: &Task) -> anyhow::Result<TaskId> {
        if task.input::<Value>()?["adds"] == true {
            task.add(Sequential::new());
        }
        let refuses = task.input::<Value>()?["refuses"].as_u64().unwrap_or(0);
        if (self.refusals.fetch_add(1, Ordering::SeqCst) as u64) < refuses {
            anyhow::bail!("not yet");
        }
        fs::write(folder()?.join(format!("held-{}", task.id())), "")?;
        Ok(task.id().clone())
    }

    async fn cancel_reservation(&self, task: &Task, held: TaskId) -> anyhow::Result<()> {
        anyhow::ensure!(held == *task.id(), "somebody else's reservation");
        Ok(fs::remove_file(folder()?.join(format!("held-{held}")))?)
    }

    async fn execute(&self, task: &Task, input: Value) -> anyhow::Result<Value> {
        leave_trace(task)?;
        fs::remove_file(folder()?.join(format!("held-{}", task.id())))?;
        Ok(input["rounds"].clone())
    }
}

/// Adds what the test wants to its own task.
#[frestq::task(queue = "work", action = "grow")]
async fn grow(plans: Vec<Plan>, task: Task) -> anyhow::Result<&'static str> {
    for plan in plans {
        task.add(plan);
    }
    Ok("grown")
}

/// Leaves subtasks, and goes on with the next one if one of them fails.
#[derive(Default)]
struct Forgiving;

#[frestq::task(queue = "work", action = "forgive")]
impl Handler for Forgiving {
    type Input = Vec<Plan>;
    type Output = Vec<String>;
    type Reservation = ();

    async fn execute(&self, task: &Task, plans: Vec<Plan>) -> anyhow::Result<Vec<String>> {
        for plan in plans {
            task.add(plan);
        }
        Ok(Vec::new())
    }

    async fn handle_error(&self, task: &Task, error: &TaskError) -> Recovery<Vec<String>> {
        match error.message() {
            "unforgivable" => return Recovery::Propagate,
            "confusing" => std::panic::panic_any("and now?"),
            "whose?" => match task.child("guilty").await {
                Ok(child) => return Recovery::Continue(vec![child.id().to_string()]),
                Err(_) => return Recovery::Propagate,
            },
            "inspiring" => task.add(Sequential::new()),
            _ if leave_trace(task).is_err() => return Recovery::Propagate,
            _ => {}
        }
        Recovery::Continue(vec![error.message().to_owned()])
    }
}

/// Goes on until it is called off, and leaves a file that says so.
#[frestq::task(queue = "work", action = "until_cancelled")]
async fn until_cancelled(task: Task) -> anyhow::Result<()> {
    leave_trace(&task)?;
    task.cancelled().await;
    anyhow::ensure!(task.is_cancelled(), "told, and yet not so");
    Ok(fs::write(
        folder()?.join(format!("cancelled-{}", task.id())),
        "",
    )?)
}

/// Fails at the test's sign.
#[frestq::task(queue = "work", action = "fail_at")]
async fn fail_at(gate: Gate) -> Result<(), anyhow::Error> {
    gate.wait().await?;
    Err(TaskError::new("told", "failed as told").into())
}

/// Says what it sees of the rest of its tree.
#[frestq::task(queue = "work", action = "look_around")]
async fn look_around(task: Task) -> anyhow::Result<Value> {
    let siblings = task.siblings().await?;
    let siblings: Vec<_> = siblings.iter().map(frestq::Relative::id).collect();
    Ok(json!({
        "parent": task.parent().await?.id(),
        "siblings": siblings,
        "previous": task.previous().await?.output::<Value>()?,
        "next": task.next().await?.input::<Value>()?,
        "effect_key": task.effect_key(),
    }))
}

/// Has an output other than what it returns.
#[frestq::task(queue = "work", action = "set_output")]
async fn set_output(input: Value, task: Task) -> anyhow::Result<()> {
    task.set_output("overwritten");
    task.set_output(input);
    Ok(())
}

/// Gives its input to its parent, as the parent's output.
#[frestq::task(queue = "work", action = "tell_parent")]
async fn tell_parent(input: Value, task: Task) -> anyhow::Result<()> {
    task.set_parent_output(input);
    Ok(())
}

async fn plant(State(peer): State<Frestq>, Json(plan): Json<Plan>) -> frestq::Result<Json<Value>> {
    let task = peer.send(plan).await?;
    Ok(Json(json!({ "id": task.id() })))
}

/// A task that the test wants this peer to send.
#[derive(Deserialize)]
struct Order {
    to: String,
    queue: String,
    action: String,
    #[serde(default)]
    data: Value,
    label: Option<String>,
    info: Option<String>,
    expires_in_ms: Option<u64>,
    delay_ms: Option<u64>,
    priority: Option<i32>,
    unique: Option<String>,
    pin: Option<String>,
}

async fn send(State(peer): State<Frestq>, Json(order): Json<Order>) -> frestq::Result<Json<Value>> {
    let mut task: SimpleTask =
        SimpleTask::new(order.to, order.queue, order.action).data(order.data);
    if let Some(label) = order.label {
        task = task.label(label);
    }
    if let Some(info) = order.info {
        task = task.info(info);
    }
    if let Some(ms) = order.expires_in_ms {
        task = task.expires_in(Duration::from_millis(ms));
    }
    if let Some(ms) = order.delay_ms {
        task = task.delay(Duration::from_millis(ms));
    }
    if let Some(priority) = order.priority {
        task = task.priority(priority);
    }
    if let Some(key) = order.unique {
        task = task.unique(key);
    }
    if let Some(certificate) = order.pin {
        task = task.pin(certificate);
    }
    let task = peer.send(task).await?;
    Ok(Json(json!({ "id": task.id() })))
}

/// Sends a task, and answers with what its handle gives.
async fn call(State(peer): State<Frestq>, Json(order): Json<Order>) -> frestq::Result<Json<Value>> {
    let task: SimpleTask = SimpleTask::new(order.to, order.queue, order.action).data(order.data);
    match peer.send(task).await?.output().await {
        Ok(output) => Ok(Json(json!({ "output": output }))),
        Err(Error::Task { error, .. }) => Ok(Json(json!({ "failed": error }))),
        Err(error) => Err(error),
    }
}

/// A peer that the test wants this one to register.
#[derive(Deserialize)]
struct Registered {
    name: String,
    url: String,
    certificates: Vec<String>,
    #[serde(default)]
    allow: Vec<String>,
}

async fn add_peer(
    State(peer): State<Frestq>,
    Json(new): Json<Registered>,
) -> frestq::Result<Json<Value>> {
    let registered = frestq::Peer::new(new.name, new.url);
    let registered = new
        .certificates
        .into_iter()
        .fold(registered, frestq::Peer::certificate);
    let registered = new.allow.into_iter().fold(registered, frestq::Peer::allow);
    peer.peers().add(registered).await?;
    Ok(Json(json!(peer.peers().list())))
}

async fn remove_peer(
    State(peer): State<Frestq>,
    Path(name): Path<String>,
) -> frestq::Result<Json<Value>> {
    peer.peers().remove(&name).await?;
    Ok(Json(json!(peer.peers().list())))
}

/// Reads the output of a task once when it is there, and once more when the test says so.
async fn read_twice(
    State(peer): State<Frestq>,
    Path(gate): Path<String>,
    Json(order): Json<Order>,
) -> frestq::Result<Json<Value>> {
    let task: SimpleTask = SimpleTask::new(order.to, order.queue, order.action).data(order.data);
    let task = peer.send(task).await?;
    task.output().await?;
    if let Err(error) = (Gate { gate }).wait().await {
        return Err(Error::Invalid(error.to_string()));
    }
    task.output().await.map(Json)
}

async fn cancel(State(peer): State<Frestq>, Path(id): Path<TaskId>) -> frestq::Result<()> {
    peer.cancel(&id, "not wanted").await
}

async fn task(State(peer): State<Frestq>, Path(id): Path<TaskId>) -> axum::response::Response {
    match peer.task(&id).await {
        Ok(record) => Json(record).into_response(),
        Err(error) => error.into_response(),
    }
}

async fn most_running() -> String {
    MOST_RUNNING.load(Ordering::SeqCst).to_string()
}

async fn ready() -> &'static str {
    "ready"
}

frestq::main!(|app| {
    app
    .schema("CREATE TABLE IF NOT EXISTS counted (task TEXT NOT NULL, n BIGINT NOT NULL)")
    .schema(
        "CREATE TABLE IF NOT EXISTS noted (message TEXT NOT NULL, sender TEXT NOT NULL, text TEXT NOT NULL)"
    )
    .route("/ready", get(ready))
    .route("/send", post(send))
    .route("/plant", post(plant))
    .route("/read-twice/{gate}", post(read_twice))
    .route("/call", post(call))
    .route("/peers", post(add_peer))
    .route("/peers/{name}/remove", post(remove_peer))
    .route("/cancel/{id}", post(cancel))
    .route("/task/{id}", get(task))
    .route("/most_running", get(most_running))
});
