//! A user's own macro may write handlers.

#![deny(warnings)]

macro_rules! echo {
    ($name:ident, $queue:literal, $action:expr, $type:ty) => {
        #[frestq::task(queue = $queue, action = $action, retries = 2)]
        async fn $name(input: $type) -> anyhow::Result<$type> {
            Ok(input)
        }
    };
}

echo!(text, "echo", "text", String);
echo!(number, "echo", "number", u64);

fn main() {}
