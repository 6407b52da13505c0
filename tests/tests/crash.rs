//! `kill -9` at random moments, of either peer, while thousands of tasks travel: nothing that was
//! acknowledged is lost, nothing happens twice.
//!
//! The seed is printed; `FRESTQ_TEST_SEED` repeats its choices, though not the timing of processes.
//! `FRESTQ_TEST_TASKS` and `FRESTQ_TEST_KILLS` make it longer.

use std::{
    collections::BTreeMap,
    io::Write as _,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use serde_json::json;

use crate::{
    audit,
    harness::{Database, Peer, Store, text, until},
};

const POSTERS: usize = 16;

/// Writes down each time that a task's status or output is set to that of its end.
async fn watch_endings(store: &Store, database: &Database) {
    database
        .execute("CREATE TABLE endings (task TEXT NOT NULL, status BIGINT NOT NULL)")
        .await;
    let statements = match store {
        Store::Sqlite => {
            "CREATE TRIGGER ended AFTER UPDATE OF status, output ON tasks WHEN NEW.status >= 10 \
             BEGIN INSERT INTO endings VALUES (NEW.id, NEW.status); END; \
             CREATE TRIGGER born_ended AFTER INSERT ON tasks WHEN NEW.status >= 10 \
             BEGIN INSERT INTO endings VALUES (NEW.id, NEW.status); END;"
        }
        Store::Postgres(_) => {
            "CREATE FUNCTION write_down_ending() RETURNS trigger LANGUAGE plpgsql AS \
             'BEGIN INSERT INTO endings VALUES (NEW.id, NEW.status); RETURN NULL; END'; \
             CREATE TRIGGER ended AFTER INSERT OR UPDATE OF status, output ON tasks FOR EACH ROW \
             WHEN (NEW.status >= 10) EXECUTE FUNCTION write_down_ending();"
        }
    };
    database.execute(statements).await;
}

/// A number from the environment.
fn setting<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}

/// The tasks of a query, each with its number.
async fn map(database: &Database, sql: &str) -> BTreeMap<String, i64> {
    let pairs = database.pairs(sql).await;
    let count = pairs.len();
    let map: BTreeMap<_, _> = pairs.into_iter().collect();
    assert_eq!(map.len(), count, "a task is there twice: {sql}");
    map
}

/// Posts tasks to A, which B runs in one or more processes, while any of these is killed now and then.
async fn campaign(store: Store, b: Vec<Peer>) {
    let seed = setting("FRESTQ_TEST_SEED").unwrap_or_else(|| fastrand::u64(..));
    // Past the capturing of output, so that it is there whatever happens.
    let _ = writeln!(std::io::stderr(), "crash campaign: FRESTQ_TEST_SEED={seed}");
    let total: usize = setting("FRESTQ_TEST_TASKS").unwrap_or(2000);
    let kills: usize = setting("FRESTQ_TEST_KILLS").unwrap_or(20);
    let mut luck = fastrand::Rng::with_seed(seed);

    let a = Peer::start_with(&store, "a", &[audit::ON]).await;
    watch_endings(&store, &a.database).await;
    watch_endings(&store, &b[0].database).await;
    let (order_url, http, to) = (a.view("/send"), a.http.clone(), b[0].url.clone());
    let databases = (a.database.clone(), b[0].database.clone());
    let mut peers: Vec<_> = std::iter::once(a).chain(b).collect();
    let (next, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let acknowledged: Mutex<BTreeMap<String, i64>> = Mutex::default();
    let count = || acknowledged.lock().unwrap().len();

    // Each number is posted until A acknowledges it. A post that A died over may have left a task
    // of which the poster doesn't know; such a task must end well all the same.
    let post = async |n: usize| {
        let order = json!({"to": to, "queue": "work", "action": "count", "data": {"n": n}});
        let deadline = std::time::Instant::now() + 2 * crate::harness::PATIENCE;
        loop {
            let request = http
                .post(&order_url)
                .header("content-type", "application/json");
            if let Ok(answer) = request.body(order.to_string()).send().await
                && answer.status() == 200
                && let Ok(body) = answer.text().await
            {
                let body = serde_json::from_str(&body).unwrap();
                let id = text(&body, "id").to_owned();
                acknowledged
                    .lock()
                    .unwrap()
                    .insert(id, i64::try_from(n).unwrap());
                return;
            }
            assert!(
                std::time::Instant::now() < deadline,
                "A takes no task any more"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let posters = join_all((0..POSTERS).map(async |_| {
        loop {
            let n = next.fetch_add(1, Ordering::SeqCst);
            if n >= total {
                return;
            }
            post(n).await;
        }
    }));
    let crashes = async {
        for kill in 1..=kills {
            // Spread over the posting, each a little off.
            let at = total * kill / (kills + 1);
            until("the posters get on", async || count() >= at).await;
            tokio::time::sleep(Duration::from_micros(luck.u64(0..30_000))).await;
            let which = luck.usize(0..peers.len());
            let peer = &mut peers[which];
            // Now and then in good order.
            if luck.u8(0..5) == 0 {
                peer.stop().await;
            } else {
                peer.kill();
            }
            peer.run().await;
        }
        over.store(true, Ordering::SeqCst);
    };
    tokio::join!(posters, crashes);
    assert!(over.load(Ordering::SeqCst));

    let acknowledged = acknowledged.into_inner().unwrap();
    assert_eq!(acknowledged.len(), total);
    for database in [&databases.0, &databases.1] {
        let open = "SELECT count(*) FROM tasks WHERE status < 10";
        until("every task has ended", async || {
            database.number(open).await == 0
        })
        .await;
    }
    let outputs = "SELECT id, CAST(output AS BIGINT) FROM tasks WHERE status = 10";
    let inputs = "SELECT id, CAST(substr(input, 6, length(input) - 6) AS BIGINT) FROM tasks";
    let on_a = map(&databases.0, outputs).await;
    assert_eq!(on_a, map(&databases.1, outputs).await);
    let input = map(&databases.0, inputs).await;
    assert_eq!(
        input,
        map(&databases.1, inputs).await,
        "not the same tasks on both sides"
    );
    assert_eq!(on_a.len(), input.len(), "not all are finished");
    assert!(on_a.iter().all(|(id, output)| *output == 2 * input[id]));
    assert!(acknowledged.iter().all(|(id, n)| input.get(id) == Some(n)));
    assert_eq!(
        map(&databases.1, "SELECT task, n FROM counted").await,
        input
    );
    for database in [&databases.0, &databases.1] {
        let endings = map(database, "SELECT task, status FROM endings").await;
        assert_eq!(endings.len(), input.len());
    }
    // Each message that was accepted is in a chain, and each chain whole, whatever it was killed over.
    for peer in &peers {
        audit::sound(peer).await;
    }
    let _ = writeln!(
        std::io::stderr(),
        "crash campaign: {total} acknowledged and {} more tasks, {kills} kills",
        input.len() - total
    );
}

on_each_store! {
    async fn nothing_acknowledged_is_lost_and_nothing_happens_twice(store) {
        let b = Peer::start_with(&store, "b", &[audit::ON]).await;
        campaign(store, vec![b]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_is_it_with_several_processes_on_one_database() {
    if let Some(store) = Store::postgres() {
        let b = crate::processes::pair(&store, &[audit::ON]).await;
        campaign(store, b.into()).await;
    }
}
