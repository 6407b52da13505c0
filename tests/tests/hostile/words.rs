//! Words that are to be taken for ours.

use serde_json::{Value, json};

use super::Siege;
use crate::harness::{Fake, Reply, id, message, secure::peer_line, text, until, update};

/// Begins a line of its own, or clears the screen, wherever it is written as it is.
const FORGED: &str = "\nFORGED\r\nFORGED\u{1b}[2JFORGED\u{9b}2J";

/// It stands in no line's beginning, and moves no cursor.
#[track_caller]
fn is_harmless(text: &str) {
    assert!(
        !text.lines().any(|line| line.starts_with("FORGED")),
        "{text}"
    );
    let control = |c: char| c.is_control() && c != '\n';
    assert!(!text.contains(control), "{text:?}");
}

on_each_store! {
    async fn nobody_writes_a_line_of_the_log_or_of_a_listing(store) {
        let refusal = json!({"message": format!("no{FORGED}")}).to_string();
        let fake = Fake::answering(move |n, _| match n {
            0 => Reply::Says(503, "retry-after: 0\r\n".to_owned(), refusal.clone()),
            1 => Reply::Says(400, String::new(), refusal.clone()),
            2 => Reply::Says(400, String::new(), format!("no{FORGED}")),
            _ => Reply::ok(),
        });
        let (siege, server) = Siege::with(&store, &[], fake.await).await;
        let (b, c_url) = (&siege.b, &siege.c_url);
        // What C's server says, and what C says of tasks.
        let mut tasks = Vec::new();
        for n in 0..2 {
            let task = b.send(c_url, "work", "echo", json!(n)).await;
            let error = b.error(&task).await.to_string();
            assert!(error.contains("FORGED"), "{error}");
            tasks.push(task);
        }
        let sent = b.send(c_url, "work", "echo", json!(2)).await;
        b.reaches(&sent, "sent").await;
        server.sees(4).await;
        let failed = json!({"error": FORGED, "message": FORGED, "data": FORGED});
        let report = update(c_url, &sent, "error", failed);
        assert_eq!(siege.post("internal.frestq", &report).await.status, 200);
        b.error(&sent).await;
        tasks.push(sent);
        // In each member where it may stand.
        let mut answers = Vec::new();
        for member in ["message_id", "task_id", "action", "info"] {
            let mut forged = message(c_url, "echo", json!(FORGED));
            forged[member] = json!(format!("{}{FORGED}", id()));
            answers.push(siege.post("work", &forged).await.status);
            if member != "action" {
                tasks.push(text(&forged, "task_id").to_owned());
            }
        }
        assert_eq!(answers, [200, 200, 404, 200]);
        let queue = "work%0AFORGED%1B%5B2J";
        assert_eq!(siege.post(queue, &message(c_url, "echo", json!(1))).await.status, 404);

        for task in &tasks[3..] {
            let shown = async || b.cli(&["--show-task", task, "--json"]).stdout;
            until("it has run", async || String::from_utf8_lossy(&shown().await).contains("\"finished\"")).await;
        }
        is_harmless(&b.log());
        assert!(b.log().contains("FORGED"), "{}", b.log());
        let mut commands: Vec<Vec<&str>> = ["--tasks", "--messages", "--peers"].map(|flag| vec![flag]).into();
        for task in &tasks {
            commands.extend(["--show-task", "--tree", "--watch"].map(|flag| vec![flag, task.as_str()]));
        }
        for command in commands {
            let said = b.cli(&command);
            let stdout = String::from_utf8(said.stdout).unwrap();
            assert!(!stdout.is_empty(), "{command:?}");
            is_harmless(&stdout);
        }
        assert_eq!(peer_line(b, "c")["backlog"], Value::from(0));
        siege.holds().await;
    }
}
