//! A handler as an implementation of the trait, in every form.

#![forbid(unsafe_code)]
#![deny(warnings)]

use std::sync::atomic::{AtomicUsize, Ordering};

use frestq::prelude::*;

#[derive(Serialize, Deserialize, Action)]
#[action(queue = "say_queue", action = "goodbye_all", output = Vec<String>)]
struct GoodbyeAll {
    usernames: Vec<String>,
}

/// Everything from the input, which names the action.
#[derive(Default)]
struct ByAction;

#[frestq::task(retries = 2, timeout = "1m")]
impl Handler for ByAction {
    type Input = GoodbyeAll;
    type Output = Vec<String>;

    async fn execute(&self, task: &Task, input: GoodbyeAll) -> anyhow::Result<Vec<String>> {
        let again = input.to(task.here());
        task.peer().send(again).await?;
        Ok(vec![])
    }

    async fn handle_error(&self, _: &Task, _: &TaskError) -> Recovery<Vec<String>> {
        Recovery::Continue(vec![])
    }
}

/// What all tasks share.
#[derive(Default)]
struct Counting {
    runs: AtomicUsize,
}

#[frestq::task(queue = "say_queue", action = "counted", local)]
#[cfg(all())]
/// Documented.
impl frestq::Handler for Counting {
    type Input = ();
    type Output = usize;

    async fn execute(&self, _task: &Task, (): ()) -> anyhow::Result<usize> {
        let limit = std::env::var("LIMIT")?;
        let _: usize = limit.parse()?;
        Ok(self.runs.fetch_add(1, Ordering::Relaxed))
    }
}

/// One of the types of a generic one.
#[derive(Default)]
struct Echo<T>(std::marker::PhantomData<fn() -> T>);

#[frestq::task(queue = "say_queue", action = "echo")]
impl Handler for Echo<(u8, String)> {
    type Input = (u8, String);
    type Output = Self::Input;

    async fn execute(&self, _: &Task, input: (u8, String)) -> anyhow::Result<(u8, String)> {
        Ok(input)
    }
}

/// Configured out, so nothing of it needs to exist.
#[frestq::task(queue = "say_queue", action = "absent")]
#[cfg(any())]
impl Handler for Absent {
    type Input = Undefined;
}

macro_rules! constant {
    ($name:ident, $action:literal, $output:ty, $value:expr) => {
        #[derive(Default)]
        struct $name;

        #[frestq::task(queue = "constants", action = $action)]
        impl Handler for $name {
            type Input = ();
            type Output = $output;

            async fn execute(&self, _: &Task, (): ()) -> anyhow::Result<$output> {
                Ok($value)
            }
        }
    };
}

constant!(One, "one", u8, 1);
constant!(Two, "two", &'static str, "2");

fn main() {
    #[derive(Default)]
    struct InAFunction;

    #[frestq::task(queue = "say_queue", action = "in_a_function")]
    impl Handler for InAFunction {
        type Input = u8;
        type Output = u8;

        async fn execute(&self, _: &Task, input: u8) -> anyhow::Result<u8> {
            Ok(input)
        }
    }
}
