//! The recorded trees of two original peers: the examples' peers stand on either side of them.

use serde_json::{Value, json};

use crate::harness::{
    EXTERNAL_A, EXTERNAL_B, Fake, Peer, SYNCHRONIZED_A, SYNCHRONIZED_B, Store, TASKTREE_A,
    TASKTREE_B, eventually, id, text, update,
};

/// The messages of a recording that went to the peer on this port, each with its path.
fn recorded(recording: &str, port: u16) -> Vec<(String, Value)> {
    let to = format!("http://127.0.0.1:{port}");
    recording
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|exchange| exchange["to"] == *to && text(exchange, "path").starts_with("/api/"))
        // What an original posts to itself, ours need not.
        .filter(|exchange| !text(&exchange["request"], "sender_url").starts_with(&to))
        .map(|exchange| {
            (
                text(&exchange, "path").to_owned(),
                exchange["request"].clone(),
            )
        })
        .collect()
}

fn tasktree(port: u16) -> Vec<(String, Value)> {
    recorded(include_str!("../wire/tasktree.jsonl"), port)
}

fn external(port: u16) -> Vec<(String, Value)> {
    recorded(include_str!("../wire/external.jsonl"), port)
}

fn synchronized(port: u16) -> Vec<(String, Value)> {
    recorded(include_str!("../wire/synchronized.jsonl"), port)
}

/// The recorded messages of an action.
fn only(messages: &[(String, Value)], action: &str) -> Vec<(String, Value)> {
    let messages = messages.iter();
    let wanted = messages.filter(|(_, message)| text(message, "action") == action);
    wanted.cloned().collect()
}

/// What this peer would have got, had the recording's other peer been at `sender` and named the task
/// so.
fn readdressed(mut message: Value, sender: &str, task: &str) -> Value {
    message["sender_url"] = json!(sender);
    message["task_id"] = json!(task);
    message
}

/// Hands a recorded message to our peer, which takes it as an original one would.
async fn deliver(peer: &Peer, path: &str, message: &Value) {
    let request = peer.http.post(peer.view(path)).body(message.to_string());
    let answer = peer.ask(request).await.unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
}

/// Compares what the pretended peer got with the recorded messages, whatever their order: nothing
/// more, nothing less, down to the members, but for ids that are made afresh.
fn assert_recorded(fake: &Fake, expected: Vec<(String, Value)>) {
    let sorted = |mut messages: Vec<(String, Value)>| {
        for (_, message) in &mut messages {
            assert_eq!(text(message, "message_id").len(), 36);
            message["message_id"] = json!("");
        }
        messages.sort_by_key(|(path, message)| format!("{path} {}", message["data"]));
        messages
    };
    let seen = fake.seen();
    let seen = seen
        .iter()
        .map(|seen| (seen.path().to_owned(), seen.json()));
    assert_eq!(sorted(seen.collect()), sorted(expected));
}

/// A running peer of an example, whose other peer is pretended.
async fn beside(store: &Store, binary: &'static str, other: &Fake) -> Peer {
    let mut peer = Peer::example(store, "ours", binary).await;
    peer.set("PEER_A", &other.url);
    peer.set("PEER_B", &other.url);
    peer.run().await;
    peer
}

on_each_store! {
    /// An original A asks for the tree, and says one of its goodbyes.
    async fn our_tree_gives_an_original_peer_what_an_original_one_gave(store) {
        let a = Fake::new().await;
        let b = beside(&store, TASKTREE_B, &a).await;
        let [hello, goodbye_executing, goodbye_finished] = tasktree(5001).try_into().unwrap();
        let [executing, goodbye, finished] = tasktree(5000).try_into().unwrap();
        let root = text(&hello.1, "task_id").to_owned();
        deliver(&b, &hello.0, &readdressed(hello.1, &a.url, &root)).await;

        a.sees_task("testing.goodbye_cruel_world").await;
        a.sees(2).await;
        let asked = a.seen().into_iter().find(|seen| seen.path() == goodbye.0);
        let asked = text(&asked.unwrap().json(), "task_id").to_owned();
        let unfinished = vec![
            (executing.0, readdressed(executing.1, &b.url, &root)),
            (goodbye.0, readdressed(goodbye.1, &b.url, &asked)),
        ];
        assert_recorded(&a, unfinished.clone());

        for (path, message) in [goodbye_executing, goodbye_finished] {
            deliver(&b, &path, &readdressed(message, &a.url, &asked)).await;
        }
        a.sees(3).await;
        assert_eq!(b.output(&root).await, "hello ada!");
        let all = b.task_of("testing.all_goodbyes_together");
        assert_eq!(all["output_data"], json!(["goodbye adaada!", "goodbye adaadaada!"]));
        let finished = (finished.0, readdressed(finished.1, &b.url, &root));
        assert_recorded(&a, [unfinished, vec![finished]].concat());
    }

    /// An original B makes the tree, and has us say one of its goodbyes.
    async fn the_tree_of_an_original_peer_comes_back_to_ours(store) {
        let b = Fake::new().await;
        let a = beside(&store, TASKTREE_A, &b).await;
        let [hello, _, goodbye_finished] = tasktree(5001).try_into().unwrap();
        let [executing, goodbye, finished] = tasktree(5000).try_into().unwrap();
        let root = a.say_hello("ada").await;
        b.sees(1).await;
        let hello = (hello.0, readdressed(hello.1, &a.url, &root));
        assert_recorded(&b, vec![hello.clone()]);

        deliver(&a, &executing.0, &readdressed(executing.1, &b.url, &root)).await;
        assert_eq!(a.reaches(&root, "executing").await["output_data"], "hello ada!");
        let goodbye_id = text(&goodbye.1, "task_id").to_owned();
        deliver(&a, &goodbye.0, &readdressed(goodbye.1, &b.url, &goodbye_id)).await;
        b.sees(2).await;
        // A task that leaves no subtasks is not announced with `executing` first.
        let said = (goodbye_finished.0, readdressed(goodbye_finished.1, &a.url, &goodbye_id));
        assert_recorded(&b, vec![hello, said]);

        let finished = (finished.0, readdressed(finished.1, &b.url, &root));
        deliver(&a, &finished.0, &finished.1).await;
        let done = a.reaches(&root, "finished").await;
        assert_eq!(done["output_data"], "hello ada!");
        finishes_once(&a, &b, &root, &finished, &done).await;
    }

    /// An original A asks; a person at our B decides.
    async fn our_approval_gives_an_original_peer_what_an_original_one_gave(store) {
        let a = Fake::new().await;
        let b = beside(&store, EXTERNAL_B, &a).await;
        let [hello] = external(5001).try_into().unwrap();
        let [executing, finished] = external(5000).try_into().unwrap();
        let root = text(&hello.1, "task_id").to_owned();
        deliver(&b, &hello.0, &readdressed(hello.1, &a.url, &root)).await;
        a.sees(1).await;
        let executing = (executing.0, readdressed(executing.1, &b.url, &root));
        assert_recorded(&a, vec![executing.clone()]);

        let waiting = eventually("B waits for a person", async || {
            b.tasks().into_iter().find(|task| task["task_type"] == "external")
        })
        .await;
        let approval = b.press(&format!("/approve/{}", text(&waiting, "id"))).await;
        assert_eq!((approval.status, approval.body.as_str()), (200, ""));
        a.sees(2).await;
        let finished = (finished.0, readdressed(finished.1, &b.url, &root));
        assert_recorded(&a, vec![executing, finished]);
    }

    /// Our A asks; a person at an original B decides.
    async fn the_approval_of_an_original_peer_comes_back_to_ours(store) {
        let b = Fake::new().await;
        let a = beside(&store, EXTERNAL_A, &b).await;
        let [hello] = external(5001).try_into().unwrap();
        let [executing, finished] = external(5000).try_into().unwrap();
        let root = a.say_hello("ada").await;
        b.sees(1).await;
        assert_recorded(&b, vec![(hello.0, readdressed(hello.1, &a.url, &root))]);
        deliver(&a, &executing.0, &readdressed(executing.1, &b.url, &root)).await;
        assert_eq!(a.reaches(&root, "executing").await["output_data"], Value::Null);
        let finished = (finished.0, readdressed(finished.1, &b.url, &root));
        deliver(&a, &finished.0, &finished.1).await;
        let done = a.reaches(&root, "finished").await;
        assert_eq!(done["output_data"], Value::Null);
        finishes_once(&a, &b, &root, &finished, &done).await;
    }

    /// An original A asks for the synchronized groups, and performs a goodbye of each.
    async fn our_groups_ask_an_original_performer_as_an_original_director_did(store) {
        let a = Fake::new().await;
        let b = beside(&store, SYNCHRONIZED_B, &a).await;
        let (to_a, to_b) = (synchronized(5000), synchronized(5001));
        let (path, hello) = only(&to_b, "testing.hello_world").remove(0);
        let root = text(&hello, "task_id").to_owned();
        deliver(&b, &path, &readdressed(hello, &a.url, &root)).await;
        // One task of each group; the recording ends with the first one.
        a.sees(3).await;
        let asked: Vec<_> = a.seen().iter().map(|seen| seen.json()).collect();
        let mut asked: Vec<_> = asked
            .into_iter()
            .filter(|message| message["action"] == "frestq.synchronize_task")
            .collect();
        assert_eq!(asked.len(), 2);
        for message in &asked {
            let task = text(message, "task_id");
            let (_, recorded) = only(&to_a, "frestq.synchronize_task").remove(0);
            let mut expected = readdressed(recorded, &b.url, task);
            expected["message_id"] = message["message_id"].clone();
            expected["data"]["task_id"] = json!(task);
            assert_eq!(*message, expected);
        }
        // Both at once: whichever group gets its slots first.
        for message in &asked {
            let task = text(message, "task_id");
            let (path, confirm) = only(&to_b, "frestq.confirm_task_reservation").remove(0);
            for _ in 0..2 {
                let mut confirm = readdressed(confirm.clone(), &a.url, task);
                confirm["message_id"] = json!(id());
                deliver(&b, &path, &confirm).await;
            }
        }
        let mut executed = Vec::new();
        while let Some(message) = asked.pop() {
            let task = text(&message, "task_id").to_owned();
            let told = eventually("it is told to start", async || {
                let seen = a.seen();
                let told = seen.iter().map(|seen| seen.json()).filter(|message| {
                    message["action"] == "frestq.execute_synchronized"
                        && !executed.contains(&message["task_id"])
                });
                told.collect::<Vec<_>>().pop()
            })
            .await;
            executed.push(told["task_id"].clone());
            assert!(told.get("ext").is_none() && !task.is_empty());
            let data = &told["data"];
            assert_eq!(data["action"], "testing.goodbye_cruel_world");
            assert_eq!(data["queue_name"], "goodbye_world");
            assert_eq!(data["input_data"]["username"], "adaada");
            let reserved = data["input_data"]["reservation_data"].as_object().unwrap();
            assert_eq!(reserved.len(), 3, "{reserved:?}");
            assert_eq!(reserved[text(&told, "task_id")], json!({"port": 6010}));
            let goodbye = json!("goodbye adaada from port 6010 in server 127.0.0.1:5000!");
            for status in ["finished", "executing", "finished"] {
                let update = update(&a.url, text(&told, "task_id"), status, goodbye.clone());
                assert_eq!(b.deliver("internal.frestq", &update).await.status, 200);
            }
        }
        let done = b.reaches(&root, "finished").await;
        assert_eq!(done["output_data"].as_array().unwrap().len(), 3);
        let told = eventually("A is told", async || {
            let seen = a.seen();
            let seen = seen.iter().map(|seen| seen.json());
            seen.filter(|message| message["action"] == "frestq.update_task")
                .find(|message| message["data"]["status"] == "finished")
        })
        .await;
        assert_eq!((text(&told, "task_id"), &told["data"]["output_data"]), (&*root, &done["output_data"]));
    }

    /// An original B directs the group, and starts it from two threads at once.
    async fn our_performer_confirms_to_an_original_director_and_starts_once(store) {
        let b = Fake::new().await;
        let a = beside(&store, SYNCHRONIZED_A, &b).await;
        let (to_a, to_b) = (synchronized(5000), synchronized(5001));
        let (path, ask) = only(&to_a, "frestq.synchronize_task").remove(0);
        let task = text(&ask, "task_id").to_owned();
        deliver(&a, &path, &readdressed(ask, &b.url, &task)).await;
        b.sees(1).await;
        let (path, confirmed) = only(&to_b, "frestq.confirm_task_reservation").remove(0);
        assert_recorded(&b, vec![(path.clone(), readdressed(confirmed.clone(), &a.url, &task))]);
        assert_eq!(a.task(&task).await["status"], "reserved");

        // Three times, the last time with another input: the first one counts.
        let starts = only(&to_a, "frestq.execute_synchronized");
        assert_eq!(starts.len(), 3);
        for (path, start) in &starts {
            deliver(&a, path, &readdressed(start.clone(), &b.url, &task)).await;
        }
        b.sees(2).await;
        let done = a.reaches(&task, "finished").await;
        assert_eq!(done["input_data"], starts[0].1["data"]["input_data"]);
        assert_eq!(done["reservation_data"], json!({"port": 6010}));
        assert_eq!(done["attempt"], 1);
        let finished = b.seen()[1].json();
        assert_eq!(finished["data"]["status"], "finished");
        let server = a.url.split('/').nth(2).unwrap();
        let goodbye = format!("goodbye adaada from port 6010 in server {server}!");
        assert_eq!(finished["data"]["output_data"], goodbye);
    }

    /// Nobody can tell an original peer that its work is not wanted any more.
    async fn an_original_peer_is_not_told_of_a_cancellation(store) {
        let (a, b) = (Peer::start(&store, "a").await, Fake::new().await);
        let group = a
            .plant(&json!({"parallel": [
                {"task": {"to": a.url, "queue": "work", "action": "fail_at", "data": {"gate": "fail"}}},
                {"task": {"to": b.url, "queue": "work", "action": "echo"}},
            ]}))
            .await;
        let theirs = b.sees(1).await[0].json();
        let theirs = text(&theirs, "task_id");
        a.open("fail");
        assert_eq!(a.error(&group).await["error"], "told");
        a.reaches(theirs, "cancelled").await;
        // What is sent later comes later: nothing was sent in between.
        let next = a.send(&b.url, "work", "echo", json!(2)).await;
        b.sees_task(&next).await;
        let actions: Vec<_> = b.seen().iter().map(|seen| seen.json()["action"].clone()).collect();
        assert_eq!(actions, ["echo", "echo"]);
        let late = update(&b.url, theirs, "finished", json!("done all the same"));
        assert_eq!(a.deliver("internal.frestq", &late).await.status, 200);
        assert_eq!(a.task(theirs).await["status"], "cancelled");
    }
}

/// Hands the end of a task over once more, as it was and under another message id, and after it what
/// an original may still say. Nothing changes.
async fn finishes_once(
    a: &Peer,
    b: &Fake,
    task: &str,
    (path, finished): &(String, Value),
    done: &Value,
) {
    deliver(a, path, finished).await;
    let mut again = finished.clone();
    again["message_id"] = json!(id());
    deliver(a, path, &again).await;
    deliver(a, path, &update(&b.url, task, "executing", json!("late"))).await;
    assert_eq!(&a.task(task).await, done);
}
