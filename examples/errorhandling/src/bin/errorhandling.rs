//! A task of three steps. The first one fails and recovers, the second one fails for good, and so the
//! third one never runs. `POST /say/hello/{username}` starts it.

use frestq::prelude::*;

/// Asks for all three.
#[derive(Serialize, Deserialize, Action)]
#[action(queue = "fail_queue", action = "hello_world", output = String)]
struct Hello {
    username: String,
}

/// What the steps are given.
#[derive(Serialize, Deserialize)]
struct Step {
    hello: String,
}

#[frestq::task]
async fn hello_world(input: Hello, task: Task) -> anyhow::Result<String> {
    for action in ["hello_recoverable_fail", "hello_fail", "never_land"] {
        let step = Step {
            hello: "world".into(),
        };
        task.add(SimpleTask::new(task.here(), "fail_queue", action).data(step));
    }
    Ok(format!("hello {}!", input.username))
}

#[derive(Default)]
struct RecoverableFail;

#[frestq::task(queue = "fail_queue", action = "hello_recoverable_fail")]
impl Handler for RecoverableFail {
    type Input = Step;
    type Output = String;

    async fn execute(&self, _task: &Task, step: Step) -> anyhow::Result<String> {
        anyhow::bail!("no hello {} today", step.hello)
    }

    async fn handle_error(&self, _task: &Task, error: &TaskError) -> Recovery<String> {
        Recovery::Continue(format!("recovered: {}", error.message()))
    }
}

#[frestq::task(queue = "fail_queue", action = "hello_fail")]
async fn hello_fail(step: Step) -> Result<(), TaskError> {
    Err(TaskError::new("no_hello", "no hello at all").with_data(&step))
}

#[frestq::task(queue = "fail_queue", action = "never_land")]
async fn never_land(task: Task) -> anyhow::Result<()> {
    anyhow::bail!("task {} runs after a failure", task.id())
}

async fn say_hello(
    State(peer): State<Frestq>,
    Path(username): Path<String>,
) -> frestq::Result<String> {
    let task = peer.send(Hello { username }.to(peer.url())).await?;
    Ok(format!("{}\n", task.id()))
}

frestq::main!(|app| app
    .configure(|c| c.port = 5000)
    .route("/say/hello/{username}", post(say_hello)));
