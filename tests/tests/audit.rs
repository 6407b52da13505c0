//! Who asked for what, and what was answered: recorded with its effect, and told from a record that
//! somebody has meddled with.

use std::process::Output;

use futures_util::future::join_all;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{
    harness::{Fake, Peer, Proxy, Store, message, text, until, url_of},
    processes,
};

/// Turns the audit on where there are no certificates.
pub(crate) const ON: (&str, &str) = ("FRESTQ_AUDIT", "true");

/// The rows of its audit, newest first.
pub(crate) fn rows(peer: &Peer) -> Vec<Value> {
    let listed = peer.cli(&["--audit", "--json", "--limit", "10000"]);
    serde_json::from_slice(&listed.stdout).unwrap_or_else(|e| panic!("{e}: {listed:?}"))
}

/// What `--verify-audit` prints, and whether it is content.
pub(crate) fn verify(peer: &Peer, heads: &[&str]) -> (bool, String) {
    let arguments = [&["--verify-audit"], heads].concat();
    let Output {
        status,
        stdout,
        stderr,
    } = peer.cli(&arguments);
    assert!(
        matches!(status.code(), Some(0 | 1)),
        "{}",
        String::from_utf8_lossy(&stderr)
    );
    (status.success(), String::from_utf8(stdout).unwrap())
}

/// The audit is sound, and has a row for every message that was accepted.
pub(crate) async fn sound(peer: &Peer) -> String {
    let (sound, said) = verify(peer, &[]);
    assert!(sound, "{said}");
    let missing = "SELECT (SELECT count(*) FROM inbox) - (SELECT count(*) FROM audit WHERE message IS NOT NULL)";
    assert_eq!(peer.database.number(missing).await, 0);
    said
}

fn said_by(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

on_each_store! {
    async fn what_was_accepted_is_recorded_once_and_what_was_refused_is_not(store) {
        let mut peer = Peer::start_with(&store, "b", &[ON]).await;
        let task = message(&url_of(9), "echo", json!("secret"));
        for _ in 0..2 {
            assert_eq!(peer.deliver("work", &task).await.status, 200);
        }
        peer.output(text(&task, "task_id")).await;
        let mut other = task.clone();
        other["data"] = json!(2);
        assert_eq!(peer.deliver("work", &other).await.status, 409);
        let unknown = message(&url_of(9), "no_such_action", json!(1));
        assert_eq!(peer.deliver("work", &unknown).await.status, 404);
        for serves in [true, false] {
            if !serves {
                peer.stop().await;
            }
            let rows = rows(&peer);
            let [row] = &rows[..] else { panic!("{rows:?}") };
            assert_eq!((&row["peer"], &row["certificate"]), (&json!(url_of(9)), &json!(null)));
            assert_eq!((&row["queue_name"], &row["action"]), (&json!("work"), &json!("echo")));
            assert_eq!((&row["message_id"], &row["task_id"]), (&task["message_id"], &task["task_id"]));
            let digest = Sha256::digest(task.to_string());
            let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!((text(row, "body_sha256"), text(row, "answer")), (&*digest, "200"));
            assert!(!row.to_string().contains("secret"));
            let said = sound(&peer).await;
            assert_eq!(said.trim(), format!("{}:1:{}", text(row, "chain"), text(row, "hash")));
        }
        let table = peer.cli(&["--audit", "--filters", "action=echo"]);
        assert!(said_by(&table).contains(text(&task, "task_id")), "{table:?}");
    }

    async fn without_certificates_nothing_is_recorded_unless_it_is_asked_for(store) {
        let peer = Peer::start(&store, "b").await;
        let task = message(&url_of(9), "echo", json!(1));
        assert_eq!(peer.deliver("work", &task).await.status, 200);
        peer.output(text(&task, "task_id")).await;
        assert_eq!(rows(&peer), Vec::<Value>::new());
        assert_eq!(verify(&peer, &[]), (true, "the audit is empty\n".to_owned()));
    }

    async fn each_message_of_a_batch_is_recorded_by_itself(store) {
        let peer = Peer::start_with(&store, "b", &[ON]).await;
        let messages = [1, 2, 3].map(|n| message(&url_of(9), "echo", json!(n)));
        let entries = messages.clone().map(|m| json!({"queue": "work", "message": m}));
        let mut batch = message(&url_of(9), "frestq.batch", json!(entries));
        batch.as_object_mut().unwrap().remove("task_id");
        assert_eq!(peer.deliver("internal.frestq", &batch).await.status, 200);
        let rows = rows(&peer);
        let recorded: Vec<_> = rows.iter().rev().map(|row| &row["message_id"]).collect();
        assert_eq!(recorded, messages.each_ref().map(|m| &m["message_id"]));
        sound(&peer).await;
    }

    async fn what_the_operator_changes_is_recorded_with_the_peer_up_and_down(store) {
        let mut peer = Peer::start_with(&store, "a", &[ON]).await;
        let mut expected = Vec::new();
        for serves in [true, false] {
            let mut tasks = Vec::new();
            if !serves {
                peer.run().await;
            }
            for n in 0..2 {
                let order = json!({"to": peer.url, "queue": "work", "action": "echo", "data": n, "delay_ms": 3_600_000});
                tasks.push(peer.order(&order).await);
            }
            if !serves {
                peer.stop().await;
            }
            for id in &tasks {
                expected.push(("cancel", id.clone(), said_by(&peer.cli(&["--cancel", id]))));
                // In vain.
                assert_eq!(peer.cli(&["--cancel", id]).status.code(), Some(1));
            }
            let id = &tasks[0];
            expected.push(("retry", id.clone(), said_by(&peer.cli(&["--retry", id]))));
            assert_eq!(peer.cli(&["--finish", id, "1"]).status.code(), Some(1));
            if serves {
                peer.stop().await;
            }
        }
        let rows = rows(&peer);
        let recorded: Vec<_> = rows
            .iter()
            .rev()
            .map(|row| {
                assert_eq!((text(row, "peer"), &row["message_id"]), ("operator", &json!(null)));
                (text(row, "action"), text(row, "task_id").to_owned(), text(row, "answer").to_owned())
            })
            .collect();
        assert_eq!(recorded, expected);
        sound(&peer).await;
    }

    async fn what_the_application_decides_is_recorded_too(store) {
        let peer = Peer::start_with(&store, "a", &[ON]).await;
        let order = json!({"to": peer.url, "queue": "work", "action": "echo", "data": 1, "delay_ms": 3_600_000});
        let id = peer.order(&order).await;
        assert_eq!(peer.press(&format!("/cancel/{id}")).await.status, 200);
        // In vain.
        assert_ne!(peer.press(&format!("/cancel/{id}")).await.status, 200);
        let rows = rows(&peer);
        let recorded: Vec<_> = rows
            .iter()
            .map(|row| (text(row, "peer"), text(row, "action"), text(row, "task_id")))
            .collect();
        assert_eq!(recorded, [("application", "cancel", id.as_str())]);
        sound(&peer).await;
    }

    async fn several_that_decide_at_once_keep_to_one_chain(store) {
        let mut peer = Peer::start_with(&store, "a", &[ON]).await;
        let mut tasks = Vec::new();
        for n in 0..5 {
            let order = json!({"to": peer.url, "queue": "work", "action": "echo", "data": n, "delay_ms": 3_600_000});
            tasks.push(peer.order(&order).await);
        }
        peer.stop().await;
        std::thread::scope(|scope| {
            for id in &tasks {
                scope.spawn(|| said_by(&peer.cli(&["--cancel", id])));
            }
        });
        assert_eq!(rows(&peer).len(), 5);
        assert_eq!(sound(&peer).await.lines().count(), 1);
    }

    async fn a_transaction_that_fails_leaves_the_chain_as_it_was(store) {
        let peer = Peer::start_with(&store, "b", &[ON]).await;
        let guard = match store {
            Store::Sqlite => {
                "CREATE TRIGGER guard BEFORE INSERT ON tasks WHEN NEW.input = '13' BEGIN SELECT RAISE(ABORT, 'unlucky'); END"
            }
            Store::Postgres(_) => {
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''unlucky''; END'; \
                 CREATE TRIGGER guard BEFORE INSERT ON tasks FOR EACH ROW WHEN (NEW.input = '13') EXECUTE FUNCTION refuse()"
            }
        };
        peer.database.execute(guard).await;
        // Alone, and in one transaction with others.
        for _ in 0..5 {
            let statuses = join_all([1, 13, 3, 13].map(async |n| {
                let task = message(&url_of(9), "echo", json!(n));
                peer.deliver("work", &task).await.status
            }));
            assert_eq!(statuses.await, [200, 503, 200, 503]);
        }
        assert_eq!(rows(&peer).len(), 10);
        sound(&peer).await;
    }

    async fn meddling_with_the_database_is_named_while_the_peer_serves(store) {
        let mut peer = Peer::start_with(&store, "b", &[ON]).await;
        let deliver = async |peer: &Peer, count: usize| {
            for _ in 0..count {
                let task = message(&url_of(9), "echo", json!(1));
                assert_eq!(peer.deliver("work", &task).await.status, 200);
            }
        };
        deliver(&peer, 6).await;
        let before = sound(&peer).await;
        let before = before.trim();
        peer.database.execute("CREATE TABLE kept AS SELECT * FROM audit").await;
        for (meddling, expected) in [
            ("UPDATE audit SET peer = 'somebody else' WHERE seq = 3", "row 3 is not what was written"),
            ("DELETE FROM audit WHERE seq = 2", "row 2 is missing"),
            ("UPDATE audit SET seq = -seq WHERE seq IN (4, 5); UPDATE audit SET seq = 9 + seq WHERE seq < 0", "row 4 is not what was written"),
            ("DELETE FROM audit WHERE seq > 4", "rows 5 to 6 are cut off at the end"),
        ] {
            peer.database.execute(meddling).await;
            let (sound, said) = verify(&peer, &[]);
            assert!(!sound && said.contains(expected), "{meddling}: {said}");
            peer.database.execute("DELETE FROM audit; INSERT INTO audit SELECT * FROM kept").await;
        }
        // What comes next does not hide what was cut off, not even by a process that starts anew.
        peer.database.execute("DELETE FROM audit WHERE seq > 4").await;
        deliver(&peer, 1).await;
        peer.stop().await;
        peer.run().await;
        deliver(&peer, 1).await;
        let (sound, said) = verify(&peer, &[]);
        assert!(!sound && said.contains("rows 5 to 6 are missing"), "{said}");
        peer.database.execute("INSERT INTO audit SELECT * FROM kept WHERE seq > 4").await;
        assert_eq!(verify(&peer, &[before]).1.lines().count(), 1);
        assert!(verify(&peer, &[before]).0);
        // All of it made anew is told by the head that was printed before.
        peer.database.execute("DELETE FROM audit; DELETE FROM audit_heads").await;
        peer.stop().await;
        let (sound, said) = verify(&peer, &[before]);
        assert!(!sound && said.contains("this chain does not exist"), "{said}");
        peer.run().await;
        deliver(&peer, 7).await;
        assert!(verify(&peer, &[]).0);
        let (sound, said) = verify(&peer, &[before]);
        assert!(!sound && said.contains("row 6 does not match the given head"), "{said}");
        assert_eq!(peer.cli(&["--verify-audit", "nonsense"]).status.code(), Some(2));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_of_a_peer_have_a_chain_each() {
    let Some(store) = Store::postgres() else {
        return;
    };
    let [mut first, mut second] = processes::pair(&store, &[ON]).await;
    for round in 0..2 {
        let deliveries = (0..60).map(async |n| {
            let to = if n % 2 == 0 { &first } else { &second };
            let task = message(&url_of(9), "echo", json!(n));
            // Every third of them comes to both at the same time.
            let both =
                join_all([to, [to, &first, &second][n % 3]].map(|to| to.deliver("work", &task)));
            assert!(both.await.iter().all(|answer| answer.status == 200));
        });
        join_all(deliveries).await;
        let said = sound(&first).await;
        assert_eq!(said.lines().count(), 2, "{said}");
        assert_eq!(rows(&second).len(), 60 * (round + 1));
        // A chain goes on under its name.
        first.kill();
        second.stop().await;
        first.run().await;
        second.run().await;
    }
}

/// The head in memory is what is on disk, whatever the connection makes of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_without_an_answer_leaves_a_sound_chain() {
    let Some(store) = Store::postgres() else {
        return;
    };
    let (a, proxy) = (Fake::new().await, Proxy::new(&store).await);
    let mut b = Peer::new(&store, "b").await;
    let url = proxy.through(&b.database.url());
    b.set("FRESTQ_DATABASE", &url);
    b.set(ON.0, ON.1);
    b.createdb();
    b.run().await;
    for n in 0..4 {
        if n % 2 == 1 {
            proxy.lose_next_commit();
        }
        let task = message(&a.url, "count", json!({"n": n}));
        until("B takes the task", async || {
            b.deliver("work", &task).await.status == 200
        })
        .await;
        assert_eq!(b.output(text(&task, "task_id")).await, n * 2);
        a.sees_task(text(&task, "task_id")).await;
    }
    assert_eq!(rows(&b).len(), 4);
    sound(&b).await;
}
