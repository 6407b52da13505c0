//! The audit's chains: written with what they tell of, and each way to meddle with them named.

use std::sync::Arc;

use jiff::Timestamp;

use super::harness::{Database, at, save};
use crate::security::audit::verify;
use crate::{
    model::audit::{Digest, Entry, Head, Link},
    store::{AUDIT_FIELDS, Filters, Recorded, Store, Writer, Writes},
};

on_both!(
    a_chain_goes_on_where_it_ended_and_is_sound,
    what_was_done_to_a_chain_is_named,
    what_is_written_while_the_chain_is_read_is_no_fault,
    a_chain_of_which_only_the_head_was_removed_goes_on,
    an_earlier_head_tells_of_a_chain_made_anew,
    chains_are_listed_together_newest_first_and_filtered,
);

fn entry(at: Timestamp, message: &str) -> Entry {
    Entry {
        at,
        peer: "http://b.example:5000/api/queues".into(),
        certificate: Some("sha256:77".into()),
        queue: "work".into(),
        action: "do".into(),
        message: Some(message.into()),
        task: None,
        body: Digest::of(message.as_bytes()),
        answer: "200".into(),
    }
}

/// Adds rows to a chain behind the head that the database has of it; gives the new head.
async fn add(writer: &mut Writer, chain: &str, entries: Vec<Entry>) -> Head {
    writer.begin().await.unwrap();
    let mut head = writer.audit_head(chain).await.unwrap();
    writer.rollback().await.unwrap();
    let links: Vec<Link> = entries
        .into_iter()
        .map(|entry| {
            let link = head.link(chain, entry);
            head = link.head();
            link
        })
        .collect();
    let recorded = Some(Recorded {
        chain,
        links: &links,
    });
    let writes = Writes {
        recorded,
        ..Writes::default()
    };
    save(writer, &writes).await;
    head
}

fn some(count: i64) -> Vec<Entry> {
    (0..count).map(|n| entry(at(n), &format!("m{n}"))).collect()
}

/// What a verification says of each chain.
async fn verified(store: &Store, anchors: &[Head]) -> String {
    let mut said = Vec::new();
    for chain in store.audit_chains().await.unwrap() {
        let found = verify(store, &chain, anchors.to_vec()).await.unwrap();
        said.push(match found {
            Ok(head) => format!("{}: {} rows", chain.name, head.seq),
            Err(fault) => format!("{}: {fault}", chain.name),
        });
    }
    said.join("\n")
}

async fn execute(store: &Store, sql: &str) {
    let sql = sqlx::AssertSqlSafe(sql.to_owned());
    store.fetch(sql, Vec::new(), |_| Ok(())).await.unwrap();
}

async fn a_chain_goes_on_where_it_ended_and_is_sound(database: Arc<Database>) {
    let store = database.store().await;
    assert_eq!(verified(&store, &[]).await, "");
    // More than a page of rows.
    for count in [1, 2, 2500] {
        let mut writer = store.writer().await.unwrap();
        add(&mut writer, "one", some(count)).await;
        add(&mut writer, "two", some(1)).await;
    }
    assert_eq!(verified(&store, &[]).await, "one: 2503 rows\ntwo: 3 rows");
}

async fn what_was_done_to_a_chain_is_named(database: Arc<Database>) {
    let store = database.store().await;
    let mut writer = store.writer().await.unwrap();
    add(&mut writer, "one", some(1200)).await;
    let swap = "UPDATE audit SET seq = -seq WHERE seq IN (4, 5); UPDATE audit SET seq = 9 + seq WHERE seq < 0";
    let changed = "row 1100 is not what was written there: it was changed or moved";
    let all = "DELETE FROM audit; INSERT INTO audit SELECT * FROM kept; \
               DELETE FROM audit_heads; INSERT INTO audit_heads SELECT * FROM kept_heads";
    execute(&store, "CREATE TABLE kept AS SELECT * FROM audit").await;
    execute(
        &store,
        "CREATE TABLE kept_heads AS SELECT * FROM audit_heads",
    )
    .await;
    for (meddling, expected) in [
        ("SELECT 1", "1200 rows"),
        ("UPDATE audit SET action = 'no' WHERE seq = 1100", changed),
        (
            "UPDATE audit SET certificate = NULL WHERE seq = 1100",
            changed,
        ),
        ("UPDATE audit SET at = at + 1 WHERE seq = 1100", changed),
        (
            "UPDATE audit SET at = 9223372036854775807 WHERE seq = 1100",
            changed,
        ),
        ("UPDATE audit SET hash = body WHERE seq = 1100", changed),
        ("DELETE FROM audit WHERE seq = 7", "row 7 is missing"),
        (
            "DELETE FROM audit WHERE seq > 2 AND seq < 1150",
            "rows 3 to 1149 are missing",
        ),
        (swap, "row 4 is not what was written there"),
        (
            "DELETE FROM audit WHERE seq > 1198",
            "rows 1199 to 1200 are cut off at the end",
        ),
        ("DELETE FROM audit", "rows 1 to 1200 are cut off at the end"),
        (
            "UPDATE audit_heads SET seq = 1199",
            "does not match the head",
        ),
        (
            "UPDATE audit SET seq = 0 WHERE seq = 1",
            "row 0 was not written by frestq",
        ),
        (
            "DELETE FROM audit_heads",
            "rows 1 to 1200 are beyond the head",
        ),
        (
            "UPDATE audit_heads SET hash = (SELECT hash FROM audit WHERE seq = 1198), seq = 1198",
            "rows 1199 to 1200 are beyond the head",
        ),
    ] {
        for statement in meddling.split(';') {
            execute(&store, statement).await;
        }
        let said = verified(&store, &[]).await;
        assert!(
            said.starts_with(&format!("one: {expected}")) || said.ends_with(expected),
            "{meddling}: {said}"
        );
        for statement in all.split(';') {
            execute(&store, statement).await;
        }
    }
}

async fn what_is_written_while_the_chain_is_read_is_no_fault(database: Arc<Database>) {
    let store = database.store().await;
    let mut writer = store.writer().await.unwrap();
    add(&mut writer, "one", some(3)).await;
    let chain = store.audit_chains().await.unwrap().remove(0);
    add(&mut writer, "one", some(3)).await;
    let head = verify(&store, &chain, vec![]).await.unwrap().unwrap();
    assert_eq!(head.seq, 3);
}

/// Meddling shows, and holds nothing up.
async fn a_chain_of_which_only_the_head_was_removed_goes_on(database: Arc<Database>) {
    let store = database.store().await;
    let mut writer = store.writer().await.unwrap();
    add(&mut writer, "one", some(3)).await;
    execute(&store, "DELETE FROM audit_heads").await;
    assert_eq!(add(&mut writer, "one", some(1)).await.seq, 4);
    execute(&store, "DELETE FROM audit WHERE seq > 2").await;
    assert_eq!(add(&mut writer, "one", some(1)).await.seq, 5);
    assert_eq!(verified(&store, &[]).await, "one: rows 3 to 4 are missing");
}

async fn an_earlier_head_tells_of_a_chain_made_anew(database: Arc<Database>) {
    let store = database.store().await;
    let mut writer = store.writer().await.unwrap();
    let early = add(&mut writer, "one", some(2)).await;
    let late = add(&mut writer, "one", some(2)).await;
    assert_eq!(verified(&store, &[early, late]).await, "one: 4 rows");
    for table in ["audit", "audit_heads"] {
        execute(&store, &format!("DELETE FROM {table}")).await;
    }
    let forged = vec![entry(at(0), "m0"), entry(at(1), "another")];
    add(&mut writer, "one", forged).await;
    assert_eq!(verified(&store, &[]).await, "one: 2 rows");
    let said = verified(&store, &[early]).await;
    assert_eq!(said, "one: row 2 does not match the given head");
    let said = verified(&store, &[late]).await;
    assert_eq!(
        said,
        "one: the chain ends with row 2, but the given head is that of row 4"
    );
}

async fn chains_are_listed_together_newest_first_and_filtered(database: Arc<Database>) {
    let store = database.store().await;
    let mut writer = store.writer().await.unwrap();
    for n in 0..6 {
        let chain = ["one", "two"][usize::from(n % 2 == 1)];
        let mut entry = entry(at(n), &format!("m{n}"));
        if n == 3 {
            (entry.certificate, entry.action) = (None, "other".into());
        }
        add(&mut writer, chain, vec![entry]).await;
    }
    let listed = async |filters: &[&str], limit| {
        let filters: Vec<String> = filters.iter().map(|&f| f.to_owned()).collect();
        let filters = Filters::new(AUDIT_FIELDS, &filters).unwrap();
        let found = store.audited(&filters, limit).await.unwrap();
        let messages = found
            .into_iter()
            .map(|(_, link)| link.entry.message.unwrap());
        messages.collect::<Vec<_>>().join(" ")
    };
    for (filters, limit, expected) in [
        (&[][..], 4, "m5 m4 m3 m2"),
        (&[], 100, "m5 m4 m3 m2 m1 m0"),
        (&["chain=two"], 2, "m5 m3"),
        (&["certificate=sha256:77*", "chain=two"], 9, "m5 m1"),
        (&["action=other"], 9, "m3"),
        (&["message_id=m2"], 9, "m2"),
        (
            &["peer=http://b.example*", "answer=200", "queue_name=work"],
            1,
            "m5",
        ),
        (&["task_id=t"], 9, ""),
    ] {
        assert_eq!(listed(filters, limit).await, expected, "{filters:?}");
    }
}
