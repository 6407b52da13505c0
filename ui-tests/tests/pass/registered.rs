//! What a handler declares is what is registered, at the line of the attribute.

use std::time::Duration;

use frestq::{
    __private::{ActionOptions, HandlerKind, Registration, inventory},
    Handler, Recovery, Task, TaskError,
};

const HELLO_LINE: u32 = line!() + 1;
#[frestq::task(
    queue = "say_queue",
    action = "hello_world",
    local,
    retries = 3,
    max_attempts = 5,
    timeout = "30s"
)]
/// Says hello.
async fn hello(input: String) -> anyhow::Result<String> {
    Ok(input)
}

#[frestq::message(queue = "audit", action = "note")]
async fn note(message: frestq::Message) -> anyhow::Result<()> {
    drop(message);
    Ok(())
}

#[derive(Default)]
struct Mixer;

const MIXER_LINE: u32 = line!() + 1;
#[frestq::task(queue = "mixnet", action = "mix", retries = 2)]
impl Handler for Mixer {
    type Input = String;
    type Output = String;

    async fn execute(&self, _task: &Task, input: String) -> anyhow::Result<String> {
        Ok(input)
    }

    async fn handle_error(&self, _task: &Task, _error: &TaskError) -> Recovery<String> {
        Recovery::Propagate
    }
}

fn main() {
    let mut all: Vec<_> = inventory::iter::<Registration>().collect();
    all.sort_by_key(|registration| registration.name);
    let [mixer, hello, note] = all[..] else {
        panic!("{all:?}");
    };
    assert_eq!(
        (hello.info.queue, hello.info.action, hello.name),
        ("say_queue", "hello_world", "hello")
    );
    assert_eq!(hello.info.kind, HandlerKind::Task);
    assert_eq!(hello.line, HELLO_LINE);
    assert!(hello.file.ends_with("registered.rs"));
    let declared = ActionOptions {
        local: true,
        retries: 3,
        max_attempts: 5,
        timeout: Some(Duration::from_secs(30)),
        at_most_once: false,
        handles_errors: false,
    };
    assert_eq!(hello.info.options, declared);
    assert_eq!(
        (note.info.queue, note.info.action, note.info.kind),
        ("audit", "note", HandlerKind::Message)
    );
    assert_eq!(note.info.options, ActionOptions::DEFAULT);
    assert!(hello.handle_error.is_none() && note.handle_error.is_none());
    assert_eq!(
        (mixer.info.queue, mixer.info.action, mixer.name, mixer.line),
        ("mixnet", "mix", "Mixer", MIXER_LINE)
    );
    assert_eq!(mixer.info.kind, HandlerKind::Task);
    assert!(mixer.handle_error.is_some());
    let declared = ActionOptions {
        retries: 2,
        handles_errors: true,
        ..ActionOptions::DEFAULT
    };
    assert_eq!(mixer.info.options, declared);
}
