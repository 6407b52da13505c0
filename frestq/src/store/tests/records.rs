//! Listings and their filters.

use std::sync::Arc;

use super::harness::{
    Database, accept, at, change, create, inbox_row, json, load, new_task, outbox_row, peer, save,
    send,
};
use crate::{
    model::{Direction, Role, Status},
    store::{Filters, MESSAGE_FIELDS, Store, TASK_FIELDS, Writes},
};

on_both!(
    tasks_are_listed_newest_first_and_filtered,
    a_prefix_goes_by_code_points,
    a_value_of_a_filter_is_never_sql,
    messages_of_both_directions_are_listed_newest_first,
    messages_are_filtered,
    a_received_task_lists_its_input_as_its_messages_data,
);

async fn tasks(store: &Store, filters: &[&str]) -> String {
    let filters: Vec<String> = filters.iter().map(|&f| f.to_owned()).collect();
    let filters = Filters::new(TASK_FIELDS, &filters).unwrap();
    let tasks = store.tasks(&filters, 10).await.unwrap();
    tasks
        .iter()
        .map(|t| t.id.as_str())
        .collect::<Vec<_>>()
        .join(" ")
}

async fn messages(store: &Store, filters: &[&str], limit: i64) -> String {
    let filters: Vec<String> = filters.iter().map(|&f| f.to_owned()).collect();
    let filters = Filters::new(MESSAGE_FIELDS, &filters).unwrap();
    let messages = store.messages(&filters, limit).await.unwrap();
    messages
        .iter()
        .map(|m| m.id.as_str())
        .collect::<Vec<_>>()
        .join(" ")
}

async fn filled(database: &Database) -> Store {
    let store = database.store().await;
    let url = "http://me.example/api/queues".parse().unwrap();
    store.set_own_url(&url).await.unwrap();
    let mut writer = store.writer().await.unwrap();
    let b = peer(&store, "b").await;
    let mut sent = new_task("sent");
    (sent.state.role, sent.state.peer) = (Role::Sent, b);
    sent.label = Some("count".into());
    let mut received = new_task("received");
    (received.state.role, received.state.peer) = (Role::Received, b);
    received.state.action = "say".into();
    create(&mut writer, &[sent, received, new_task("local")]).await;
    let mut state = load(&mut writer, "received").await.unwrap();
    (state.status, state.attempt) = (Status::Finished, 2);
    change(&mut writer, &state, Some(&json("true"))).await;
    store
}

async fn tasks_are_listed_newest_first_and_filtered(database: Arc<Database>) {
    let store = filled(&database).await;
    for (filters, expected) in [
        (&[][..], "local received sent"),
        (&["status=finished"], "received"),
        (&["status=created", "task_type=sequential"], "local sent"),
        (&["label=count"], "sent"),
        (&["action=say"], "received"),
        (&["attempt=2"], "received"),
        (&["queue_name=wo*"], "local received sent"),
        (&["is_local=true"], "local"),
        (&["is_received=false"], "local sent"),
        (&["sender_url=http://b.example*"], "received"),
        (&["receiver_url=http://b.example*"], "sent"),
        (&["sender_url=http://me.example/api/queues"], "local sent"),
        (&["id=l*"], "local"),
        (&["id=nobody"], ""),
    ] {
        assert_eq!(tasks(&store, filters).await, expected, "{filters:?}");
    }
    assert_eq!(store.tasks(&Filters::default(), 2).await.unwrap().len(), 2);
    let record = &store.find_tasks("received", 1).await.unwrap()[0];
    assert_eq!(
        record.sender_url.as_str(),
        "http://b.example:5000/api/queues"
    );
    assert_eq!(record.receiver_url.as_str(), "http://me.example/api/queues");
    assert!(record.is_received && !record.is_local);
}

async fn a_prefix_goes_by_code_points(database: Arc<Database>) {
    let store = database.store().await;
    let mut writer = store.writer().await.unwrap();
    let ids = ["a-1", "a_2", "A-3", "a", "b", "ab\u{10FFFD}", "a\u{E9}"];
    create(&mut writer, &ids.map(new_task)).await;
    assert_eq!(
        tasks(&store, &["id=a*"]).await,
        "a\u{E9} ab\u{10FFFD} a a_2 a-1"
    );
    assert_eq!(tasks(&store, &["id=a-*"]).await, "a-1");
    assert_eq!(tasks(&store, &["id=*"]).await.split(' ').count(), ids.len());
}

async fn a_value_of_a_filter_is_never_sql(database: Arc<Database>) {
    let store = filled(&database).await;
    for filter in [
        "label=x' OR '1'='1",
        "label=%",
        "id=*' --*",
        "label=$1",
        "action=\\",
    ] {
        assert_eq!(tasks(&store, &[filter]).await, "", "{filter}");
    }
}

async fn with_messages(database: &Database) -> Store {
    let store = database.store().await;
    let mut writer = store.writer().await.unwrap();
    let b = peer(&store, "b").await;
    for n in 0..6 {
        let mut received = inbox_row(b, &format!("in{n}"));
        received.received_at = at(2 * n);
        received.task = Some(format!("t{n}").as_str().into());
        accept(&mut writer, &[received]).await;
        let mut sent = outbox_row(b, &format!("out{n}"));
        sent.created_at = at(2 * n + 1);
        sent.action = format!("act{n}").into();
        send(&mut writer, &[sent]).await;
    }
    store
}

async fn messages_of_both_directions_are_listed_newest_first(database: Arc<Database>) {
    let store = with_messages(&database).await;
    assert_eq!(messages(&store, &[], 5).await, "out5 in5 out4 in4 out3");
    assert_eq!(messages(&store, &[], 100).await.split(' ').count(), 12);
    let all = store.messages(&Filters::default(), 2).await.unwrap();
    let (sent, received) = (&all[0], &all[1]);
    assert_eq!(
        (sent.direction, received.direction),
        (Direction::Out, Direction::In)
    );
    assert_eq!((&*sent.state, &*received.state), ("pending", "accepted"));
    assert_eq!((sent.output_status, received.output_status), (0, 200));
    assert_eq!(sent.receiver_url, received.sender_url);
    assert_eq!(sent.next_attempt_date, Some(at(0)));
    assert_eq!(received.next_attempt_date, None);
    assert_eq!(sent.input_data.get(), "1");
}

async fn messages_are_filtered(database: Arc<Database>) {
    let store = with_messages(&database).await;
    for (filters, expected) in [
        (&["is_received=true"][..], "in5 in4 in3"),
        (&["is_received=false"], "out5 out4 out3"),
        (&["action=act0"], "out0"),
        (&["id=in1"], "in1"),
        (&["task_id=t2"], "in2"),
        (&["output_status=0", "id=out*"], "out5 out4 out3"),
        (&["sender_url=http://b.example*"], "in5 in4 in3"),
        (&["queue_name=nowhere"], ""),
    ] {
        assert_eq!(messages(&store, filters, 3).await, expected, "{filters:?}");
    }
}

async fn a_received_task_lists_its_input_as_its_messages_data(database: Arc<Database>) {
    let store = database.store().await;
    let mut writer = store.writer().await.unwrap();
    let mut task = new_task("t");
    task.input = json(r#"{"a": 1}"#);
    let mut row = inbox_row(peer(&store, "b").await, "m");
    (row.task, row.data) = (Some("t".into()), None);
    let writes = Writes {
        created: vec![(&task, &task.state, None)],
        accepted: &[row],
        ..Writes::default()
    };
    save(&mut writer, &writes).await;
    let message = &store.messages(&Filters::default(), 1).await.unwrap()[0];
    assert_eq!(message.input_data.get(), r#"{"a": 1}"#);
}
