//! Tests of commands against a database of their own, from the arguments to the output.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use jiff::Timestamp;

use std::io::{self, Write};

use super::{
    flags::Flags,
    output,
    run::run,
    stop::{Stop, chain, report},
    watch,
};
use crate::{
    config::load::Environment,
    model::{Status, error::Error},
    server::App,
    store::{OpenMode, Store},
};
use crate::{
    model::{Json, NewTask, PeerId, Role, TaskId, TaskKind, TaskState, to_json},
    store::Writes,
};

/// A database in a folder of its own, removed with it.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("frestq-cli-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn url(&self) -> String {
        format!("sqlite:{}", self.0.join("peer.sqlite").display())
    }

    /// Runs a command at a width of 80. Returns its output and its exit code.
    async fn run(&self, arguments: &[&str]) -> Result<(u8, String), Stop> {
        self.run_with(arguments, App::new(), Some(80)).await
    }

    async fn run_with(
        &self,
        arguments: &[&str],
        app: App,
        width: Option<u16>,
    ) -> Result<(u8, String), Stop> {
        let url = self.url();
        let all = ["peer", "--database", &url].into_iter();
        let all = all.chain(arguments.iter().copied()).map(OsString::from);
        let flags = Flags::read(all).unwrap();
        let surroundings = Environment {
            directory: self.0.clone(),
            flags: flags.settings(),
            ..Environment::default()
        };
        let loaded = app.load(&surroundings).unwrap();
        let mut out = Vec::new();
        let code = run(&flags, &app, loaded, width, &mut out).await?;
        Ok((code, String::from_utf8(out).unwrap()))
    }

    async fn ok(&self, arguments: &[&str]) -> String {
        self.run(arguments).await.unwrap().1
    }

    async fn refused(&self, arguments: &[&str]) -> String {
        match self.run(arguments).await.unwrap_err() {
            Stop::Failed(error) | Stop::Usage(error) => error.to_string(),
            Stop::Output(error) => panic!("{error}"),
        }
    }

    /// Makes a database with these tasks.
    async fn with_tasks(name: &str, tasks: &[(&str, Status)]) -> Self {
        let place = Self::new(name);
        place.ok(&["--createdb"]).await;
        for (id, status) in tasks {
            place.write(&task(id, *status), true, None).await;
        }
        place
    }

    async fn write(&self, task: &NewTask, new: bool, output: Option<&Json>) {
        let store = Store::open(&self.url(), OpenMode::Look).await.unwrap();
        let mut writer = store.writer().await.unwrap();
        writer.begin().await.unwrap();
        let mut writes = Writes::default();
        if new {
            writes.created.push((task, &task.state, output));
            writer.save(&writes).await.unwrap();
        } else {
            let state = writer
                .load(&crate::store::Lookup::new(&[&task.state.id], &[]))
                .await
                .unwrap()
                .tasks
                .remove(0);
            let state = TaskState {
                seq: state.seq,
                ..task.state.clone()
            };
            writes.changed.push((&state, output));
            writer.save(&writes).await.unwrap();
        }
        writer.commit().await.unwrap();
        store.close().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn task(id: &str, status: Status) -> NewTask {
    let at = Timestamp::from_second(1_800_000_000).unwrap();
    NewTask {
        state: TaskState {
            id: TaskId::from(id),
            kind: TaskKind::Sequential,
            role: Role::Local,
            peer: PeerId::SELF,
            queue: "say_queue".into(),
            action: "hello_world".into(),
            status,
            ..TaskState::new(at)
        },
        input: to_json(&serde_json::json!({"username": "ada"})).unwrap(),
        label: Some("greeting\u{1b}[2J".into()),
        info: None,
        pingback_at: None,
        priority: 0,
        unique_key: None,
        created_at: at,
    }
}

#[tokio::test]
async fn createdb_says_what_it_made_and_may_be_repeated() {
    let place = Place::new("createdb");
    let app = || App::new().schema("CREATE TABLE IF NOT EXISTS votes (id INTEGER)");
    let (code, first) = place.run_with(&["--createdb"], app(), None).await.unwrap();
    assert_eq!((code, first.lines().count()), (0, 1));
    assert!(
        first.contains("are created; ran the statement of the application"),
        "{first}"
    );
    let (_, again) = place.run_with(&["--createdb"], app(), None).await.unwrap();
    assert!(again.contains("are up to date"), "{again}");
}

#[tokio::test]
async fn nothing_but_createdb_makes_a_database() {
    let place = Place::new("absent");
    for arguments in [&["--tasks"][..], &["--messages"], &["--watch", "1"]] {
        let error = place.refused(arguments).await;
        assert!(error.contains("--createdb"), "{error}");
    }
    place.run(&["--check"]).await.unwrap();
    assert!(!place.0.join("peer.sqlite").exists());
}

#[tokio::test]
async fn empty_listings_say_so() {
    let place = Place::with_tasks("empty", &[]).await;
    assert_eq!(place.ok(&["--tasks"]).await, "no tasks match\n");
    assert_eq!(place.ok(&["--messages"]).await, "no messages match\n");
    assert_eq!(place.ok(&["--tasks", "--json"]).await, "[]\n");
}

#[tokio::test]
async fn a_listing_shows_short_ids_on_a_terminal_and_whole_ones_in_a_pipe() {
    let ids = [
        ("0198c0de-1111-7aaa-long", Status::Error),
        ("0198c0de-1122-7bbb-long", Status::Finished),
    ];
    let place = Place::with_tasks("short", &ids).await;
    // The other task is not in the listing, but in the database.
    let arguments = ["--tasks", "--filters", "status=error"];
    let table = place.ok(&arguments).await;
    assert!(table.contains("0198c0de-111 "), "{table}");
    assert!(
        !table.contains("1122") && !table.contains('\u{1b}'),
        "{table}"
    );
    let (_, piped) = place.run_with(&arguments, App::new(), None).await.unwrap();
    assert!(piped.contains("0198c0de-1111-7aaa-long"), "{piped}");
}

#[tokio::test]
async fn json_has_the_names_of_the_original() {
    let place = Place::with_tasks(
        "json",
        &[("abc", Status::Finished), ("abd", Status::Created)],
    )
    .await;
    let listing: serde_json::Value =
        serde_json::from_str(&place.ok(&["--tasks", "--json", "-n", "1"]).await).unwrap();
    assert_eq!(listing.as_array().unwrap().len(), 1);
    for name in [
        "id",
        "task_type",
        "queue_name",
        "status",
        "input_data",
        "created_date",
    ] {
        assert!(listing[0].get(name).is_some(), "{name}");
    }
    assert_eq!(listing[0]["input_data"]["username"], "ada");
}

#[tokio::test]
async fn a_wrong_filter_is_a_matter_of_usage() {
    let place = Place::new("filter");
    let stop = place
        .run(&["--tasks", "--filters", "colour=red"])
        .await
        .unwrap_err();
    assert!(matches!(&stop, Stop::Usage(error) if error.to_string().contains("queue_name")));
    assert_eq!(report(&stop), 2);
}

#[tokio::test]
async fn ids_are_cut_short_as_long_as_they_are_unique() {
    let tasks = [
        ("abc1", Status::Created),
        ("abc2", Status::Error),
        ("abc", Status::Finished),
    ];
    let place = Place::with_tasks("ids", &tasks).await;
    assert!(place.ok(&["--show-task", "abc1"]).await.contains("created"));
    let error = place.refused(&["--show-task", "ab"]).await;
    assert!(
        error.contains("abc1  created") && error.contains("abc2  error"),
        "{error}"
    );
    let error = place.refused(&["--show-task", "x"]).await;
    assert!(
        error.contains("\"x\"") && error.contains("--tasks"),
        "{error}"
    );
    // A whole id is never ambiguous.
    assert!(place.ok(&["--show-task", "abc"]).await.contains("finished"));
}

#[tokio::test]
async fn show_task_has_every_field_and_lays_payloads_out() {
    let place = Place::with_tasks("show", &[("abc", Status::Created)]).await;
    let shown = place.ok(&["--show-task", "abc"]).await;
    assert!(shown.contains("  \"username\": \"ada\"\n"), "{shown}");
    for name in ["id ", "expiration_date", "run_date", "receiver_url"] {
        assert!(shown.contains(name), "{name}: {shown}");
    }
    let object: serde_json::Value =
        serde_json::from_str(&place.ok(&["--show-task", "abc", "--json"]).await).unwrap();
    assert_eq!(object["id"], "abc");
}

#[tokio::test]
async fn watch_writes_a_line_for_each_change_and_exits_by_the_end() {
    let place = Place::with_tasks("watch", &[("abc", Status::Created)]).await;
    let store = Store::open(&place.url(), OpenMode::Look).await.unwrap();
    let mut out = Vec::new();
    let change = async {
        let mut changed = task("abc", Status::Executing);
        changed.state.attempt = 1;
        tokio::time::sleep(Duration::from_millis(300)).await;
        place.write(&changed, false, None).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        changed.state.status = Status::Finished;
        let output = to_json("hello").unwrap();
        place.write(&changed, false, Some(&output)).await;
    };
    let (status, ()) = tokio::join!(watch::follow(&store, "ab", false, None, &mut out), change);
    let (status, lines) = (status.unwrap(), String::from_utf8(out).unwrap());
    assert_eq!(status, Status::Finished);
    let lines: Vec<_> = lines.lines().collect();
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert!(lines[1].contains("created") && lines[2].contains("executing  attempt 1"));
    assert!(lines[3].contains("finished") && lines[3].contains("\"hello\""));
}

#[tokio::test]
async fn watching_what_ended_badly_exits_with_1() {
    let tasks = [("abc", Status::Expired), ("bcd", Status::Finished)];
    let place = Place::with_tasks("watch-ended", &tasks).await;
    assert_eq!(place.run(&["--watch", "abc"]).await.unwrap().0, 1);
    let (code, line) = place.run(&["--watch", "bcd", "--json"]).await.unwrap();
    assert_eq!((code, line.lines().count()), (0, 1));
}

#[tokio::test]
async fn check_lists_every_fault_and_exits_with_1() {
    let place = Place::new("check");
    std::fs::write(
        place.0.join("frestq.toml"),
        "databse = 1\n[queues.nobody]\nconcurrency = 0\n",
    )
    .unwrap();
    let (code, text) = place.run(&["--check"]).await.unwrap();
    assert_eq!(code, 1);
    for part in [
        "`database`",
        "queues.nobody.concurrency must",
        "no handler serves",
        "--createdb",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let (code, json) = place.run(&["--check", "--json"]).await.unwrap();
    let findings: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, findings["faults"].as_array().unwrap().len()), (1, 4));
}

/// An application's own settings.
#[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
struct Greeting {
    greeting: String,
    token: String,
}

#[tokio::test]
async fn check_shows_the_settings_of_the_application_and_what_is_wrong_with_them() {
    let place = Place::with_tasks("check-app", &[]).await;
    let file = place.0.join("frestq.toml");
    std::fs::write(&file, "[app]\ngreeting = \"ahoy\"\ntoken = \"hunter2\"\n").unwrap();
    let app = || App::new().settings::<Greeting>();
    let check = async |app| place.run_with(&["--check"], app, None).await.unwrap();
    let (code, text) = check(app()).await;
    assert_eq!(code, 0, "{text}");
    let line = |key: &str| text.lines().find(|line| line.starts_with(key)).unwrap();
    assert!(line("app.greeting").contains("ahoy"), "{text}");
    assert!(line("app.greeting").contains("frestq.toml:2"), "{text}");
    assert!(
        line("app.token").contains("***") && !text.contains("hunter2"),
        "{text}"
    );

    let (code, text) = check(App::new()).await;
    assert!(code == 1 && text.contains("`.settings::<T>()`"), "{text}");

    std::fs::write(&file, "[app]\ngreting = \"ahoy\"\n").unwrap();
    let (code, text) = check(app()).await;
    let hint = "unknown key `app.greting`; did you mean `app.greeting`?";
    assert!(code == 1 && text.contains(hint), "{text}");
}

#[tokio::test]
async fn check_is_content_with_a_sound_peer() {
    let place = Place::with_tasks("sound", &[]).await;
    let (code, text) = place.run(&["--check"]).await.unwrap();
    assert_eq!(code, 0, "{text}");
    assert!(
        text.contains("no faults") && text.contains("--database"),
        "{text}"
    );
}

#[tokio::test]
async fn a_reader_that_leaves_is_no_fault() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let stop = output::line(&mut Closed, "x").unwrap_err();
    assert_eq!(report(&stop), 0);
}

#[test]
fn a_cause_has_a_line_of_its_own() {
    let inner = io::Error::other("no room");
    let error = Error::Io {
        what: "can't write".into(),
        source: inner,
    };
    assert_eq!(chain(&error), "error: can't write\n  caused by: no room");
}

/// A tree of four: a root, a group below it with one task, and a task that failed.
async fn planted(name: &str) -> Place {
    let place = Place::with_tasks(name, &[]).await;
    let below = |id: &str, parent: &str, order: i64, status: Status| {
        let mut task = task(id, status);
        task.state.parent = Some(parent.into());
        task.state.order = order;
        task.label = None;
        task
    };
    let mut group = below("group", "root", 0, Status::Executing);
    group.state.kind = TaskKind::Parallel;
    (group.state.queue, group.state.action) = ("".into(), "".into());
    let mut root = task("root", Status::Executing);
    root.state.open_children = 1;
    place.write(&root, true, None).await;
    let failed =
        to_json(&serde_json::json!({"error": "broke", "message": "in two\nparts"})).unwrap();
    let last = below("last", "root", 1, Status::Error);
    place.write(&group, true, None).await;
    place.write(&last, true, Some(&failed)).await;
    let inner = below("inner", "group", 0, Status::Finished);
    let output = to_json("hello").unwrap();
    place.write(&inner, true, Some(&output)).await;
    place
        .write(&task("other", Status::Created), true, None)
        .await;
    place
}

#[tokio::test]
async fn a_tree_is_drawn_with_each_task_below_its_parent() {
    let place = planted("tree").await;
    let tree = place.ok(&["--tree", "root"]).await;
    let lines: Vec<_> = tree.lines().collect();
    assert_eq!(lines.len(), 4, "{tree}");
    assert!(lines[0].starts_with("root  executing  say_queue/hello_world"));
    assert!(lines[1].starts_with("├─ group  executing  parallel"));
    assert!(lines[2].starts_with("│  └─ inner  finished  say_queue/hello_world  0.0 s  \"hello\""));
    assert!(lines[3].starts_with("└─ last  error"), "{tree}");
    assert!(
        tree.contains("broke: in two parts") && !tree.contains('\u{1b}'),
        "{tree}"
    );
    assert!(lines.iter().all(|line| line.chars().count() <= 80));
}

#[tokio::test]
async fn a_part_of_a_tree_may_be_shown_in_the_whole() {
    let place = planted("tree-parents").await;
    assert_eq!(place.ok(&["--tree", "group"]).await.lines().count(), 2);
    let whole = place.ok(&["--tree", "inner", "--with-parents"]).await;
    assert_eq!(whole.lines().count(), 4, "{whole}");
    let marked: Vec<_> = whole.lines().filter(|line| line.contains("=>")).collect();
    assert!(
        marked.len() == 1 && marked[0].contains("=> inner"),
        "{whole}"
    );
    let plain = place.ok(&["--tree", "other", "--with-parents"]).await;
    assert_eq!(plain.lines().count(), 1, "{plain}");
}

#[tokio::test]
async fn a_tree_as_json_nests() {
    let place = planted("tree-json").await;
    let json = place.ok(&["--tree", "root", "--json"]).await;
    let tree: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(tree["id"], "root");
    assert_eq!(tree["children"][0]["children"][0]["output_data"], "hello");
    assert_eq!(tree["children"][1]["id"], "last");
    assert_eq!(tree["children"][1]["children"], serde_json::json!([]));
}

#[tokio::test]
async fn a_deep_tree_is_drawn() {
    const DEEP: usize = 700;
    let place = Place::with_tasks("tree-deep", &[]).await;
    let store = Store::open(&place.url(), OpenMode::Look).await.unwrap();
    let mut writer = store.writer().await.unwrap();
    let tasks: Vec<_> = (0..DEEP)
        .map(|depth| {
            let mut task = task(&format!("d{depth}"), Status::Executing);
            task.state.parent = depth.checked_sub(1).map(|up| format!("d{up}").into());
            task
        })
        .collect();
    writer.begin().await.unwrap();
    let writes = Writes {
        created: tasks.iter().map(|task| (task, &task.state, None)).collect(),
        ..Writes::default()
    };
    writer.save(&writes).await.unwrap();
    writer.commit().await.unwrap();
    store.close().await;
    let tree = place.ok(&["--tree", "d0"]).await;
    assert_eq!(tree.lines().count(), DEEP);
    let whole = place
        .ok(&["--tree", "d699", "--with-parents", "--json"])
        .await;
    assert_eq!(whole.matches("\"children\"").count(), DEEP);
}

#[tokio::test]
async fn watching_on_a_terminal_draws_over_what_it_drew() {
    let place = planted("watch-screen").await;
    let store = Store::open(&place.url(), OpenMode::Look).await.unwrap();
    let mut out = Vec::new();
    let change = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        place
            .write(&task("root", Status::Finished), false, None)
            .await;
    };
    let screen = Some(watch::Screen::new(80));
    let (status, ()) = tokio::join!(
        watch::follow(&store, "root", false, screen, &mut out),
        change
    );
    assert_eq!(status.unwrap(), Status::Finished);
    let drawn = String::from_utf8(out).unwrap();
    assert!(drawn.matches("\u{1b}[4A").count() >= 1, "{drawn:?}");
    assert!(!drawn.starts_with("\u{1b}[4A"));
    assert!(drawn.contains("root  finished"), "{drawn:?}");
}

#[tokio::test]
async fn an_external_task_says_whether_it_waits() {
    let place = planted("external").await;
    for (id, status) in [
        ("ext-now", Status::Executing),
        ("ext-later", Status::Created),
        ("ext-over", Status::Finished),
    ] {
        let mut external = task(id, status);
        external.state.kind = TaskKind::External;
        (external.state.queue, external.state.action) = ("".into(), "".into());
        external.state.parent = Some("root".into());
        external.state.expires_at = Timestamp::from_second(2_000_000_000).ok();
        place.write(&external, true, None).await;
    }
    let now = place.ok(&["--show-external", "ext-n"]).await;
    assert!(
        now.contains("now, since 2027-01-15") && now.contains("2033-05-18"),
        "{now}"
    );
    assert!(
        now.contains("\"username\": \"ada\"") && now.contains("tree of   root"),
        "{now}"
    );
    assert!(!now.contains('\u{1b}'), "{now}");
    assert!(
        place
            .ok(&["--show-external", "ext-l"])
            .await
            .contains("not yet")
    );
    assert!(
        place
            .ok(&["--show-external", "ext-o"])
            .await
            .contains("as finished")
    );
    let json = place.ok(&["--show-external", "ext-n", "--json"]).await;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&json["waits"], &json["root_id"]),
        (&true.into(), &"root".into())
    );
    let error = place.refused(&["--show-external", "root"]).await;
    assert!(error.contains("sequential, not external"), "{error}");
}

#[tokio::test]
async fn without_a_server_decisions_are_carried_out_at_once() {
    let place = planted("decide").await;
    let said = place.ok(&["--cancel", "ro"]).await;
    assert_eq!(said, "task root is cancelled, with its subtree\n");
    assert!(
        place
            .ok(&["--show-task", "group"])
            .await
            .contains("cancelled")
    );
    let error = place.refused(&["--cancel", "root"]).await;
    assert!(error.contains("ended before, as cancelled"), "{error}");
    let error = place.refused(&["--finish", "other", "1"]).await;
    assert!(error.contains("not external"), "{error}");
    let error = place.refused(&["--retry", "other"]).await;
    assert!(error.contains("has not failed: it is created"), "{error}");
    let error = place.refused(&["--retry", "last"]).await;
    assert!(error.contains("task root"), "{error}");
    // No handler of this test's binary runs it.
    let error = place.refused(&["--retry", "root"]).await;
    assert!(
        error.contains("no longer has the action say_queue/hello_world"),
        "{error}"
    );
    assert!(
        place
            .ok(&["--show-task", "other"])
            .await
            .contains("created")
    );
}

#[tokio::test]
async fn an_argument_of_a_decision_that_is_none_is_a_matter_of_usage() {
    let place = Place::new("usage");
    for arguments in [
        ["--finish", "a", "yes"],
        ["--finish", "", "1"],
        ["--deny", "a*", "no"],
    ] {
        let stop = place.run(&arguments).await.unwrap_err();
        assert!(matches!(stop, Stop::Usage(_)), "{arguments:?}");
    }
}

#[tokio::test]
async fn a_request_is_answered_by_the_one_process_that_takes_it() {
    let place = Place::with_tasks("request", &[]).await;
    let mut serving = Store::open(&place.url(), OpenMode::Serve).await.unwrap();
    let mut asking = Store::open(&place.url(), OpenMode::Look).await.unwrap();
    assert!(serving.is_alone().await.unwrap() && !asking.is_alone().await.unwrap());
    let id = TaskId::from("abc");
    let first = asking.ask("cancel", &id, "").await.unwrap();
    let second = asking.ask("deny", &id, "no").await.unwrap();
    let taken = serving.take_request().await.unwrap().unwrap();
    assert_eq!(
        (taken.seq, taken.kind.as_str(), taken.task),
        (first, "cancel", id)
    );
    assert!(!asking.withdraw_request(first).await.unwrap());
    assert!(asking.withdraw_request(second).await.unwrap());
    assert!(serving.take_request().await.unwrap().is_none());
    let answer = Ok("done".to_owned());
    serving.answer_request(first, &answer).await.unwrap();
    let stage = asking.request_stage(first).await.unwrap();
    assert_eq!(stage, crate::store::Stage::Done("done".into()));
    serving.close().await;
    drop(serving);
    assert!(asking.is_alone().await.unwrap());
}

/// The serving process was killed in the middle: it had taken the request, and carried out all or
/// nothing of it.
#[tokio::test]
async fn a_request_that_was_taken_by_a_process_that_died_is_carried_out() {
    for (name, did) in [("taken-open", false), ("taken-done", true)] {
        let place = planted(name).await;
        let serving = Store::open(&place.url(), OpenMode::Serve).await.unwrap();
        let dies = async {
            let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
            while serving.take_request().await.unwrap().is_none() {
                assert!(tokio::time::Instant::now() < deadline, "no request arrives");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            if did {
                let cancelled = task("root", Status::Cancelled);
                place.write(&cancelled, false, None).await;
            }
            serving.close().await;
            drop(serving);
        };
        let (answer, ()) = tokio::join!(place.run(&["--cancel", "root"]), dies);
        if did {
            let Err(Stop::Failed(error)) = answer else {
                panic!("{answer:?}")
            };
            assert!(
                error.to_string().contains("may have carried out"),
                "{error}"
            );
        } else {
            assert!(answer.unwrap().1.contains("is cancelled"));
        }
        let shown = place.ok(&["--show-task", "root"]).await;
        assert!(shown.contains("cancelled"), "{shown}");
    }
}
