//! Messages on their way out, and the peers they go to.

use std::sync::Arc;

use super::harness::{Database, at, create, new_task, outbox_row, peer, send, settle};
use crate::{
    model::{PeerId, Status},
    store::{OutboxState, PeerHealth, Settled, Store, Writes},
};

on_both!(
    messages_are_pending_in_order_until_they_are_settled,
    places_go_on_after_a_rollback_and_with_another_writer,
    a_message_that_failed_waits_for_its_next_attempt,
    a_message_that_carries_a_task_that_has_ended_is_moot,
    a_settled_message_never_changes,
    the_backlog_names_the_first_moment_of_each_peer,
    a_peer_keeps_its_row_and_its_health,
    this_peers_own_address_is_row_zero,
);

async fn pending(store: &Store, peer: PeerId, after: i64, now: i64) -> Vec<String> {
    let rows = store.pending(peer, after, at(now), 100).await.unwrap();
    rows.iter().map(|row| row.message.to_string()).collect()
}

fn settled(seq: i64, state: OutboxState, answer: u16) -> Settled<'static> {
    Settled {
        seq,
        state,
        answer,
        due_at: None,
        error: None,
    }
}

async fn places_go_on_after_a_rollback_and_with_another_writer(database: Arc<Database>) {
    let store = database.store().await;
    let b = peer(&store, "b").await;
    let mut writer = store.writer().await.unwrap();
    let mut told = Vec::new();
    for (message, comes_through) in [("1", true), ("lost", false), ("2", true)] {
        let rows = [outbox_row(b, message)];
        let outgoing = Writes {
            outgoing: &rows,
            ..Writes::default()
        };
        writer.begin().await.unwrap();
        writer.save(&outgoing).await.unwrap();
        match comes_through {
            true => told.extend(writer.commit().await.unwrap()),
            false => writer.rollback().await.unwrap(),
        }
    }
    drop(writer);
    send(&mut store.writer().await.unwrap(), &[outbox_row(b, "3")]).await;

    let stored = store.pending(b, 0, at(0), 100).await.unwrap();
    let places: Vec<_> = stored
        .iter()
        .map(|row| (row.message.clone(), row.seq))
        .collect();
    assert_eq!(told, places[..2]);
    assert_eq!(pending(&store, b, 0, 0).await, ["1", "2", "3"]);
}

async fn messages_are_pending_in_order_until_they_are_settled(database: Arc<Database>) {
    let store = database.store().await;
    let mut writer = store.writer().await.unwrap();
    let (b, c) = (peer(&store, "b").await, peer(&store, "c").await);
    let mut later = outbox_row(b, "later");
    later.due_at = at(9);
    later.expires_at = Some(at(90));
    later.carries_task = false;
    let rows = [
        outbox_row(b, "2"),
        later,
        outbox_row(b, "1"),
        outbox_row(c, "3"),
    ];
    send(&mut writer, &rows).await;

    assert_eq!(pending(&store, b, 0, 0).await, ["2", "1"]);
    assert_eq!(pending(&store, c, 0, 0).await, ["3"]);
    let stored = store.pending(b, 0, at(9), 100).await.unwrap();
    assert_eq!(stored.len(), 3);
    let places: Vec<i64> = stored.iter().map(|row| row.seq).collect();
    assert!(places.is_sorted());
    assert_eq!(pending(&store, b, places[0], 9).await, ["later", "1"]);
    assert_eq!(store.pending(b, 0, at(9), 2).await.unwrap().len(), 2);
    assert_eq!(stored[1].expires_at, Some(at(90)));
    assert_eq!(
        (stored[0].carries_task, stored[1].carries_task),
        (true, false)
    );

    settle(&mut writer, settled(places[0], OutboxState::Delivered, 200)).await;
    settle(&mut writer, settled(places[1], OutboxState::Failed, 404)).await;
    assert_eq!(pending(&store, b, 0, 9).await, ["1"]);
}

async fn a_message_that_failed_waits_for_its_next_attempt(database: Arc<Database>) {
    let store = database.store().await;
    let mut writer = store.writer().await.unwrap();
    let b = peer(&store, "b").await;
    send(&mut writer, &[outbox_row(b, "m")]).await;
    let row = store.pending(b, 0, at(0), 1).await.unwrap().remove(0);
    let again = Settled {
        due_at: Some(at(30)),
        error: Some("no\0 route"),
        ..settled(row.seq, OutboxState::Pending, 503)
    };
    settle(&mut writer, again).await;
    assert_eq!(pending(&store, b, 0, 29).await, [""; 0]);
    let row = store.pending(b, 0, at(30), 1).await.unwrap().remove(0);
    assert_eq!((row.attempts, row.due_at), (1, at(30)));
    // Without another moment it stays due.
    settle(&mut writer, settled(row.seq, OutboxState::Pending, 0)).await;
    let row = store.pending(b, 0, at(30), 1).await.unwrap().remove(0);
    assert_eq!((row.attempts, row.due_at), (2, at(30)));
}

async fn a_settled_message_never_changes(database: Arc<Database>) {
    let store = database.store().await;
    let mut writer = store.writer().await.unwrap();
    let b = peer(&store, "b").await;
    send(&mut writer, &[outbox_row(b, "m")]).await;
    let seq = store.pending(b, 0, at(0), 1).await.unwrap()[0].seq;
    settle(&mut writer, settled(seq, OutboxState::Delivered, 200)).await;
    settle(&mut writer, settled(seq, OutboxState::Pending, 503)).await;
    let message = &store.messages(&Default::default(), 1).await.unwrap()[0];
    assert_eq!(
        (&*message.state, message.output_status, message.attempts),
        ("delivered", 200, 1)
    );
}

async fn the_backlog_names_the_first_moment_of_each_peer(database: Arc<Database>) {
    let store = database.store().await;
    let mut writer = store.writer().await.unwrap();
    let (b, c) = (peer(&store, "b").await, peer(&store, "c").await);
    assert_eq!(store.backlog().await.unwrap(), []);
    let mut later = outbox_row(b, "1");
    later.due_at = at(5);
    let mut other = outbox_row(c, "3");
    other.due_at = at(7);
    send(&mut writer, &[later, outbox_row(b, "2"), other]).await;
    assert_eq!(store.backlog().await.unwrap(), [(b, at(0)), (c, at(7))]);
}

async fn a_peer_keeps_its_row_and_its_health(database: Arc<Database>) {
    let store = database.store().await;
    let b = peer(&store, "b").await;
    assert_eq!(peer(&store, "b").await, b);
    assert_ne!(peer(&store, "c").await, b);
    let health = |store: Vec<crate::store::PeerRow>| {
        store.into_iter().find(|row| row.id == b).unwrap().health
    };
    assert_eq!(health(store.peers().await.unwrap()), PeerHealth::default());
    let ill = PeerHealth {
        extensions: true,
        failures: 3,
        probe_at: Some(at(60)),
        last_error: Some("connection refused".into()),
    };
    for expected in [ill, PeerHealth::default()] {
        store.set_peer_health(b, &expected).await.unwrap();
        assert_eq!(health(store.peers().await.unwrap()), expected);
    }
}

async fn this_peers_own_address_is_row_zero(database: Arc<Database>) {
    let store = database.store().await;
    let url = "http://me.example/api/queues".parse().unwrap();
    store.set_own_url(&url).await.unwrap();
    let peers = store.peers().await.unwrap();
    assert_eq!((peers[0].id, &peers[0].url), (PeerId::SELF, &url));
}

async fn a_message_that_carries_a_task_that_has_ended_is_moot(database: Arc<Database>) {
    let store = database.store().await;
    let mut writer = store.writer().await.unwrap();
    let b = peer(&store, "b").await;
    for (id, status) in [("open", Status::Created), ("over", Status::Cancelled)] {
        let mut task = new_task(id);
        task.state.peer = b;
        task.state.status = status;
        create(&mut writer, &[task]).await;
    }
    let row = |message: &str, task: &str| {
        let mut row = outbox_row(b, message);
        row.task = task.into();
        row
    };
    let mut about = row("about", "over");
    about.carries_task = false;
    let rows = [
        row("open", "open"),
        row("over", "over"),
        row("tried", "over"),
        about,
    ];
    send(&mut writer, &rows).await;
    let tried = store.pending(b, 0, at(0), 100).await.unwrap()[2].seq;
    settle(
        &mut writer,
        Settled {
            due_at: Some(at(0)),
            ..settled(tried, OutboxState::Pending, 503)
        },
    )
    .await;
    let rows = store.pending(b, 0, at(0), 100).await.unwrap();
    let moot: Vec<_> = rows
        .iter()
        .map(|row| (row.message.as_str(), row.moot))
        .collect();
    assert_eq!(
        moot,
        [
            ("open", false),
            ("over", true),
            ("tried", true),
            ("about", false)
        ]
    );
}
