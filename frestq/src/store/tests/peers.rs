//! Peers: what is registered of them, where they are and were, and when they were last heard of.

use std::sync::Arc;

use super::harness::{Database, at, outbox_row, peer, send};
use crate::{
    model::{Fingerprint, PeerChange, PeerId, PeerRegistration},
    store::Contact,
};

on_both!(
    a_registration_comes_back_as_it_was_stored_until_it_is_taken_out,
    a_peer_that_moves_is_remembered_at_its_former_address,
    a_contact_never_goes_back,
    a_pin_comes_back_with_its_message,
);

async fn a_registration_comes_back_as_it_was_stored_until_it_is_taken_out(database: Arc<Database>) {
    let store = database.store().await;
    let plain = PeerRegistration {
        name: "b".into(),
        url: "https://b.example.org/api/queues".parse().unwrap(),
        certificates: Vec::new(),
        ca: None,
        allow: Vec::new(),
        private: false,
    };
    let full = PeerRegistration {
        name: "a".into(),
        certificates: vec![Fingerprint::of(b"1"), Fingerprint::of(b"2")],
        ca: Some("-----BEGIN CERTIFICATE-----\n".into()),
        allow: vec!["work/*".into(), "say/\"hello\"".into()],
        private: true,
        ..plain.clone()
    };
    let mut writer = store.writer().await.unwrap();
    let mut change = async |change: PeerChange| {
        writer.begin().await.unwrap();
        let changed = writer.change_peers(&change).await.unwrap();
        writer.commit().await.unwrap();
        changed
    };
    for row in [&plain, &full] {
        assert!(change(PeerChange::Add(row.clone().into())).await);
    }
    let both = store.registrations().await.unwrap();
    assert_eq!(both, [full.clone(), plain.clone()]);
    // Under its name it is the same one.
    let changed = PeerRegistration {
        name: "a".into(),
        ..plain.clone()
    };
    change(PeerChange::Add(changed.clone().into())).await;
    let both = store.registrations().await.unwrap();
    assert_eq!(both, [changed, plain.clone()]);
    assert!(change(PeerChange::Remove("a".into())).await);
    assert!(!change(PeerChange::Remove("a".into())).await);
    assert_eq!(store.registrations().await.unwrap(), [plain]);
}

async fn a_peer_that_moves_is_remembered_at_its_former_address(database: Arc<Database>) {
    let store = database.store().await;
    let b = peer(&store, "b").await;
    let row = async |id: PeerId| {
        let rows = store.peers().await.unwrap();
        let row = rows.into_iter().find(|row| row.id == id).unwrap();
        let former = row.former_url.map(|url| url.to_string());
        (row.name, row.url.to_string(), former)
    };
    let old = row(b).await.1;
    let new = "https://new.example.org/api/queues";
    // As often as that is said, and by way of nowhere.
    for url in ["moving:1", new, new] {
        store.set_peer(b, Some("b"), url).await.unwrap();
        let there = (Some("b".to_owned()), url.to_owned(), Some(old.clone()));
        assert_eq!(row(b).await, there);
    }
    let (one, two) = ("https://1.example.org/q", "https://2.example.org/q");
    for (url, former) in [(one, None), (two, Some(one)), (two, Some(one))] {
        store.set_own_url(&url.parse().unwrap()).await.unwrap();
        let former = former.map(str::to_owned);
        assert_eq!(row(PeerId::SELF).await, (None, url.to_owned(), former));
    }
}

async fn a_contact_never_goes_back(database: Arc<Database>) {
    let store = database.store().await;
    let b = peer(&store, "b").await;
    let contact = |heard: Option<i64>, answered: Option<i64>| Contact {
        heard: heard.map(at),
        answered: answered.map(at),
    };
    for (news, known) in [
        (contact(Some(5), None), contact(Some(5), None)),
        (contact(None, Some(3)), contact(Some(5), Some(3))),
        // What another process saw earlier, and writes later.
        (contact(Some(4), Some(4)), contact(Some(5), Some(4))),
    ] {
        store.set_contact(b, news).await.unwrap();
        let rows = store.peers().await.unwrap();
        let row = rows.iter().find(|row| row.id == b).unwrap();
        assert_eq!(row.contact, known);
    }
}

async fn a_pin_comes_back_with_its_message(database: Arc<Database>) {
    let store = database.store().await;
    let mut writer = store.writer().await.unwrap();
    let b = peer(&store, "b").await;
    let mut pinned = outbox_row(b, "1");
    pinned.pin = Some(Fingerprint::of(b"b"));
    let pin = pinned.pin;
    send(&mut writer, &[pinned, outbox_row(b, "2")]).await;
    let rows = store.pending(b, 0, at(0), 9).await.unwrap();
    let pins: Vec<_> = rows.iter().map(|row| row.pin).collect();
    assert_eq!(pins, [pin, None]);
}
