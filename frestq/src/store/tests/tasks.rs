//! Tasks: written and read back, waiting, due.

use std::sync::Arc;

use super::harness::{
    Database, accept, at, change, claim, create, inbox_row, json, load, new_task, outbox_row, peer,
    save, send,
};
use crate::{
    model::{
        Fingerprint, GroupPhase, InboxKey, NewTask, NodeId, OnFailure, Role, RoundMark, RunPhase,
        Status, TaskKind, TaskState,
    },
    store::{Due, Filters, MESSAGE_FIELDS, Writer, Writes, is_transient},
};

on_both!(
    a_task_comes_back_as_it_was_stored,
    every_field_that_may_change_is_written_again,
    payload_text_survives_byte_for_byte,
    an_output_stays_when_a_later_change_brings_none,
    a_task_id_is_unique,
    a_message_id_is_unique_per_peer,
    a_transaction_that_is_rolled_back_leaves_nothing,
    tasks_wait_in_the_order_in_which_they_came,
    a_delayed_task_does_not_wait_before_its_time,
    what_is_due_is_told_with_the_next_moment,
    open_tasks_are_counted_by_peer,
    a_large_batch_is_written_at_once,
    text_with_nul_is_stored_as_far_as_the_database_can,
);

async fn a_task_comes_back_as_it_was_stored(database: Arc<Database>) {
    let store = database.store().await;
    let mut writer = store.writer().await.unwrap();
    let sender = peer(&store, "a").await;
    let plain = new_task("plain");
    let full = NewTask {
        state: TaskState {
            kind: TaskKind::External,
            role: Role::Received,
            peer: sender,
            trace: Some("request 7".into()),
            status: Status::Executing,
            parent: None,
            order: 0,
            place: 0,
            open_children: 0,
            on_failure: Default::default(),
            at_most_once: true,
            moment: Some(crate::model::RunPhase::Execute),
            attempt: 3,
            failures: 1,
            interrupted: 1,
            epoch: 4,
            owner: Some(NodeId(9)),
            rev: 2,
            round: RoundMark::Round(3),
            phase: GroupPhase::default(),
            holds_reservation: true,
            wake_at: Some(at(6)),
            report_at: Some(at(7)),
            run_at: Some(at(5)),
            expires_at: Some(at(9)),
            certificate: Some(Fingerprint::of(b"a")),
            modified_at: "2030-01-02T03:04:05.678901Z".parse().unwrap(),
            ..new_task("full").state
        },
        input: json("[1]"),
        label: Some("a label".into()),
        info: Some("Wahl \u{1F5F3}".into()),
        pingback_at: Some(at(7)),
        priority: 0,
        unique_key: None,
        created_at: at(1),
    };
    create(&mut writer, &[plain.clone(), full.clone()]).await;

    for task in [&plain, &full] {
        let loaded = load(&mut writer, task.state.id.as_str()).await.unwrap();
        assert!(loaded.seq > 0);
        assert_eq!(
            loaded,
            TaskState {
                seq: loaded.seq,
                ..task.state.clone()
            }
        );
    }
    let record = &store.find_tasks("full", 2).await.unwrap()[0];
    assert_eq!(record.label.as_deref(), Some("a label"));
    assert_eq!(record.info.as_deref(), Some("Wahl \u{1F5F3}"));
    assert_eq!(record.trace.as_deref(), Some("request 7"));
    assert_eq!(record.pingback_date, Some(at(7)));
    assert_eq!(record.created_date, at(1));
    assert_eq!(record.input_data.get(), "[1]");
    assert_eq!(record.output_data.get(), "null");
}

/// Spelled out, so that a new field does not compile until somebody has decided which kind it is.
async fn every_field_that_may_change_is_written_again(database: Arc<Database>) {
    let store = database.store().await;
    let mut writer = store.writer().await.unwrap();
    create(&mut writer, &[new_task("t")]).await;
    let stored = load(&mut writer, "t").await.unwrap();
    let changed = TaskState {
        seq: stored.seq,
        id: stored.id,
        kind: stored.kind,
        role: stored.role,
        peer: stored.peer,
        queue: stored.queue,
        action: stored.action,
        trace: stored.trace,
        parent: stored.parent,
        order: stored.order,
        report_at: stored.report_at,
        certificate: stored.certificate,
        at_most_once: stored.at_most_once,
        expires_at: stored.expires_at,
        status: Status::Reserved,
        place: 1,
        open_children: 2,
        on_failure: OnFailure::AskHandler,
        moment: Some(RunPhase::HandleError),
        attempt: 3,
        failures: 4,
        interrupted: 2,
        epoch: 5,
        owner: Some(NodeId(6)),
        rev: 7,
        round: RoundMark::Round(8),
        phase: stored.phase,
        holds_reservation: true,
        wake_at: Some(at(10)),
        run_at: Some(at(11)),
        modified_at: at(12),
    };
    change(&mut writer, &changed, None).await;
    assert_eq!(load(&mut writer, "t").await.unwrap(), changed);

    let back = TaskState {
        status: Status::Created,
        moment: None,
        owner: None,
        wake_at: None,
        run_at: None,
        ..changed
    };
    change(&mut writer, &back, None).await;
    assert_eq!(load(&mut writer, "t").await.unwrap(), back);
}

/// What a database that understands JSON would change, or refuse.
const PAYLOADS: &[&str] = &[
    "1.0e5",
    "12345678901234567890123",
    "-0",
    "0.10",
    r#"{"z": 1,"a" :2, "z":3}"#,
    r#""\u0000 \ud800 \u00e9 \/ é 🗳 \n""#,
    r#"[ ]"#,
    r#""it's a \"quote\" \\ $1 ?1 {NULL}""#,
    "null",
    r#"{"\u0000": "\u0000"}"#,
];

async fn payload_text_survives_byte_for_byte(database: Arc<Database>) {
    let store = database.store().await;
    let mut writer = store.writer().await.unwrap();
    let b = peer(&store, "b").await;
    for (n, text) in PAYLOADS.iter().enumerate() {
        let id = format!("t{n}-");
        let task = NewTask {
            input: json(text),
            ..new_task(&id)
        };
        let output = json(text);
        let mut received = inbox_row(b, &id);
        received.data = Some(json(text));
        let mut sent = outbox_row(b, &id);
        sent.body = format!(r#"{{"message_id": "x", "data" : {text} , "info": null}}"#).into();
        let writes = Writes {
            created: vec![(&task, &task.state, Some(&output))],
            accepted: &[received],
            outgoing: std::slice::from_ref(&sent),
            ..Writes::default()
        };
        save(&mut writer, &writes).await;

        let record = &store.find_tasks(&id, 2).await.unwrap()[0];
        assert_eq!(record.input_data.get(), *text);
        assert_eq!(record.output_data.get(), *text);
        let stored = store.pending(b, 0, at(0), 100).await.unwrap();
        assert_eq!(stored[n].body, sent.body);
        let filters = Filters::new(MESSAGE_FIELDS, &[format!("id={id}")]).unwrap();
        let messages = store.messages(&filters, 5).await.unwrap();
        // The local task is a message to oneself.
        assert_eq!(messages.len(), 3);
        for message in messages {
            assert_eq!(message.input_data.get(), *text, "{:?}", message.direction);
        }
    }
    writer.begin().await.unwrap();
    for crate::store::Waiting { input, .. } in writer.waiting("work", 100, at(0)).await.unwrap() {
        assert!(PAYLOADS.contains(&input.get()));
    }
}

async fn an_output_stays_when_a_later_change_brings_none(database: Arc<Database>) {
    let store = database.store().await;
    let mut writer = store.writer().await.unwrap();
    create(&mut writer, &[new_task("a")]).await;
    let mut state = load(&mut writer, "a").await.unwrap();
    state.status = Status::Finished;
    change(&mut writer, &state, Some(&json("7"))).await;
    change(&mut writer, &state, None).await;
    let record = &store.find_tasks("a", 1).await.unwrap()[0];
    assert_eq!(
        (record.status, record.output_data.get()),
        (Status::Finished, "7")
    );
}

/// A transaction of its own. Where writes are put aside, only the commit can fail.
async fn try_save(writer: &mut Writer, writes: &Writes<'_>) -> crate::Result<()> {
    writer.begin().await?;
    writer.save(writes).await?;
    writer.commit().await.map(drop)
}

async fn a_task_id_is_unique(database: Arc<Database>) {
    let store = database.store().await;
    let mut writer = store.writer().await.unwrap();
    let task = new_task("a");
    create(&mut writer, std::slice::from_ref(&task)).await;
    let writes = Writes {
        created: vec![(&task, &task.state, None)],
        ..Writes::default()
    };
    let error = try_save(&mut writer, &writes).await.unwrap_err();
    writer.rollback().await.unwrap();
    // On SQLite there is nobody who could have been faster.
    assert_eq!(is_transient(&error), database.url.starts_with("postgres"));
    assert_eq!(store.find_tasks("a", 5).await.unwrap().len(), 1);
}

async fn a_message_id_is_unique_per_peer(database: Arc<Database>) {
    let store = database.store().await;
    let mut writer = store.writer().await.unwrap();
    let (b, c) = (peer(&store, "b").await, peer(&store, "c").await);
    accept(&mut writer, &[inbox_row(b, "m"), inbox_row(c, "m")]).await;

    let writes = Writes {
        accepted: &[inbox_row(b, "n"), inbox_row(b, "m")],
        ..Writes::default()
    };
    try_save(&mut writer, &writes).await.unwrap_err();
    writer.rollback().await.unwrap();

    let key = |peer, message: &str| InboxKey {
        peer,
        message: message.into(),
    };
    let keys = [key(b, "m"), key(c, "m"), key(b, "n"), key(c, "M")];
    writer.begin().await.unwrap();
    let mut found = writer
        .load(&crate::store::Lookup::new(
            &[],
            &keys.iter().collect::<Vec<_>>(),
        ))
        .await
        .unwrap()
        .inbox;
    writer.commit().await.unwrap();
    found.sort_by_key(|(key, _)| key.peer);
    assert_eq!(found, [(key(b, "m"), [7; 16]), (key(c, "m"), [7; 16])]);
}

async fn a_transaction_that_is_rolled_back_leaves_nothing(database: Arc<Database>) {
    let store = database.store().await;
    let mut writer = store.writer().await.unwrap();
    let task = new_task("a");
    writer.begin().await.unwrap();
    let writes = Writes {
        created: vec![(&task, &task.state, None)],
        ..Writes::default()
    };
    writer.save(&writes).await.unwrap();
    writer.rollback().await.unwrap();
    // Without an open transaction it does nothing.
    writer.rollback().await.unwrap();
    assert!(load(&mut writer, "a").await.is_none());
    create(&mut writer, &[task]).await;
    assert!(load(&mut writer, "a").await.is_some());
}

async fn tasks_wait_in_the_order_in_which_they_came(database: Arc<Database>) {
    let store = database.store().await;
    let mut writer = store.writer().await.unwrap();
    let mut tasks: Vec<_> = ["c", "a", "d", "b"].map(new_task).into();
    let mut sent = new_task("sent");
    sent.state.role = Role::Sent;
    sent.state.moment = None;
    let mut elsewhere = new_task("elsewhere");
    elsewhere.state.queue = "other".into();
    tasks.extend([sent, elsewhere]);
    create(&mut writer, &tasks).await;
    let ids = |states: Vec<TaskState>| states.into_iter().map(|s| s.id.to_string()).collect();
    let first: Vec<String> = ids(claim(&mut writer, NodeId(1), 3, at(0)).await);
    let rest: Vec<String> = ids(claim(&mut writer, NodeId(1), 3, at(0)).await);
    assert_eq!(
        (first.join(" "), rest.join(" ")),
        ("c a d".into(), "b".into())
    );
}

async fn a_delayed_task_does_not_wait_before_its_time(database: Arc<Database>) {
    let store = database.store().await;
    let mut writer = store.writer().await.unwrap();
    let mut task = new_task("a");
    task.state.run_at = Some(at(10));
    create(&mut writer, &[task]).await;
    assert_eq!(claim(&mut writer, NodeId(1), 9, at(9)).await, []);
    assert_eq!(claim(&mut writer, NodeId(1), 9, at(10)).await.len(), 1);
}

async fn what_is_due_is_told_with_the_next_moment(database: Arc<Database>) {
    let store = database.store().await;
    let mut writer = store.writer().await.unwrap();
    assert_eq!(store.due(at(0), 10).await.unwrap(), Due::default());

    let task = |id: &str, queue: &str, run_at, expires_at, status| {
        let mut task = new_task(id);
        task.state.queue = queue.into();
        (task.state.run_at, task.state.expires_at) = (run_at, expires_at);
        task.state.status = status;
        task
    };
    create(
        &mut writer,
        &[
            task("delayed", "q1", Some(at(10)), None, Status::Created),
            task("also delayed", "q1", Some(at(11)), None, Status::Created),
            task("later", "q2", Some(at(50)), None, Status::Created),
            task("expires", "q3", None, Some(at(20)), Status::Executing),
            task("expires first", "q3", None, Some(at(15)), Status::Sent),
            task("has ended", "q3", None, Some(at(5)), Status::Finished),
        ],
    )
    .await;
    let due = store.due(at(0), 10).await.unwrap();
    assert_eq!(
        (due.expired, due.ready, due.next),
        (vec![], vec![], Some(at(10)))
    );
    let due = store.due(at(20), 10).await.unwrap();
    assert_eq!(due.expired, ["expires first".into(), "expires".into()]);
    assert_eq!(due.ready, ["q1"]);
    assert_eq!(due.next, Some(at(50)));
    assert_eq!(store.due(at(20), 1).await.unwrap().expired.len(), 1);
}

async fn open_tasks_are_counted_by_peer(database: Arc<Database>) {
    let store = database.store().await;
    let mut writer = store.writer().await.unwrap();
    let (b, c) = (peer(&store, "b").await, peer(&store, "c").await);
    let received = |id: &str, peer, status| {
        let mut task = new_task(id);
        (task.state.role, task.state.peer, task.state.status) = (Role::Received, peer, status);
        task
    };
    create(
        &mut writer,
        &[
            received("1", b, Status::Created),
            received("2", b, Status::Executing),
            received("3", b, Status::Finished),
            received("4", c, Status::Error),
            new_task("local"),
        ],
    )
    .await;
    assert_eq!(store.open_tasks().await.unwrap(), [(b, 2)]);
}

async fn a_large_batch_is_written_at_once(database: Arc<Database>) {
    let store = database.store().await;
    let mut writer = store.writer().await.unwrap();
    let b = peer(&store, "b").await;
    let tasks: Vec<_> = (0..2_000).map(|n| new_task(&format!("t{n}"))).collect();
    create(&mut writer, &tasks).await;
    let messages: Vec<_> = (0..2_000)
        .map(|n| outbox_row(b, &format!("m{n}")))
        .collect();
    send(&mut writer, &messages).await;
    assert_eq!(
        claim(&mut writer, NodeId(1), 5_000, at(0)).await.len(),
        2_000
    );
    let pending = store.pending(b, 0, at(0), 5_000).await.unwrap();
    let in_order = pending
        .iter()
        .zip(&messages)
        .all(|(read, sent)| read.message == sent.message);
    assert!(pending.len() == 2_000 && in_order);
}

async fn text_with_nul_is_stored_as_far_as_the_database_can(database: Arc<Database>) {
    let store = database.store().await;
    let mut writer = store.writer().await.unwrap();
    let task = NewTask {
        label: Some("a\0b".into()),
        info: Some("\0".into()),
        ..new_task("a")
    };
    create(&mut writer, &[task]).await;
    let label = store.find_tasks("a", 1).await.unwrap()[0].label.clone();
    assert!(matches!(label.as_deref(), Some("a\0b" | "a\u{FFFD}b")));
}
