//! Databases that last for one test, and rows to put into them.

use std::{
    io::Write as _,
    path::PathBuf,
    sync::{Arc, Once},
};

use jiff::Timestamp;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::{
    model::{
        InboxKey, InboxRow, Json, NewTask, NodeId, OutboxRow, PeerId, Role, Status, TaskKind,
        TaskState,
    },
    store::{OpenMode, Settled, Store, Writer, Writes},
};

/// A database of a test's own.
pub(crate) struct Database {
    pub(crate) url: String,
    place: Place,
}

enum Place {
    Folder(PathBuf),
    Server { url: String, name: String },
}

pub(crate) async fn sqlite<F>(test: fn(Arc<Database>) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let folder = std::env::temp_dir().join(unique());
    std::fs::create_dir(&folder).unwrap();
    let url = format!("sqlite:{}", folder.join("peer.sqlite").display());
    let place = Place::Folder(folder);
    run(Database { url, place }, test).await;
}

pub(crate) async fn postgres<F>(test: fn(Arc<Database>) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    static SAID: Once = Once::new();
    let Ok(server) = std::env::var("FRESTQ_TEST_POSTGRES") else {
        // Past the capture of a test's output, since nothing else would tell.
        SAID.call_once(|| {
            let line = "skipped: the store's tests on Postgres; FRESTQ_TEST_POSTGRES is not set\n";
            std::io::stderr().write_all(line.as_bytes()).unwrap();
        });
        return;
    };
    let name = unique();
    let mut url = url::Url::parse(&server).unwrap();
    url.set_path(&name);
    let place = Place::Server { url: server, name };
    let url = url.into();
    run(Database { url, place }, test).await;
}

fn unique() -> String {
    format!("frestq-test-{}", uuid::Uuid::new_v4().simple())
}

/// Runs a test and removes its database, whatever came of it.
async fn run<F>(database: Database, test: fn(Arc<Database>) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let database = Arc::new(database);
    let result = tokio::spawn(test(database.clone())).await;
    database.remove().await;
    if let Err(error) = result {
        std::panic::resume_unwind(error.into_panic());
    }
}

impl Database {
    /// A second one in the folder of an SQLite database, which goes with it.
    pub(crate) fn beside(first: &Database, name: &str) -> Self {
        let Place::Folder(folder) = &first.place else {
            panic!("only a folder has room for two");
        };
        Self {
            url: format!("sqlite:{}", folder.join(name).display()),
            place: Place::Folder(folder.clone()),
        }
    }

    /// With our tables, to serve.
    pub(crate) async fn store(&self) -> Store {
        self.open(OpenMode::Create).await.close().await;
        self.open(OpenMode::Serve).await
    }

    pub(super) async fn open(&self, purpose: OpenMode) -> Store {
        Store::open(&self.url, purpose).await.unwrap()
    }

    pub(super) async fn refusal(&self, purpose: OpenMode) -> String {
        match Store::open(&self.url, purpose).await {
            Ok(_) => panic!("it opened"),
            Err(error) => error.to_string(),
        }
    }

    /// A database that is there, and empty.
    pub(super) async fn make_empty(&self) {
        match &self.place {
            Place::Folder(folder) => {
                std::fs::write(folder.join("peer.sqlite"), "").unwrap();
            }
            Place::Server { name, .. } => {
                self.on_server(format!("CREATE DATABASE \"{name}\" TEMPLATE template0"))
                    .await;
            }
        }
    }

    async fn remove(&self) {
        match &self.place {
            Place::Folder(folder) => std::fs::remove_dir_all(folder).unwrap(),
            Place::Server { name, .. } => {
                self.on_server(format!("DROP DATABASE IF EXISTS \"{name}\" WITH (FORCE)"))
                    .await;
            }
        }
    }

    async fn on_server(&self, sql: String) {
        let Place::Server { url, .. } = &self.place else {
            return;
        };
        let mut connection = PgConnection::connect(url).await.unwrap();
        sqlx::query(AssertSqlSafe(sql))
            .execute(&mut connection)
            .await
            .unwrap();
        connection.close().await.unwrap();
    }
}

pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

pub(super) fn json(text: &str) -> Json {
    serde_json::from_str(text).unwrap()
}

pub(super) async fn peer(store: &Store, name: &str) -> PeerId {
    let url = format!("http://{name}.example:5000/api/queues");
    store.add_peer(&url.parse().unwrap()).await.unwrap().id
}

/// A task that this peer shall run, in the queue `work`.
pub(super) fn new_task(id: &str) -> NewTask {
    NewTask {
        state: TaskState {
            id: id.into(),
            kind: TaskKind::Sequential,
            role: Role::Local,
            peer: PeerId::SELF,
            queue: "work".into(),
            action: "do".into(),
            moment: Some(crate::model::RunPhase::Execute),
            ..TaskState::new(at(0))
        },
        input: json("{}"),
        label: None,
        info: None,
        pingback_at: None,
        priority: 0,
        unique_key: None,
        created_at: at(0),
    }
}

pub(super) fn inbox_row(peer: PeerId, message: &str) -> InboxRow {
    InboxRow {
        key: InboxKey {
            peer,
            message: message.into(),
        },
        hash: [7; 16],
        queue: "work".into(),
        action: "do".into(),
        task: None,
        data: Some(json("1")),
        received_at: at(0),
        evidence: None,
    }
}

pub(super) fn outbox_row(peer: PeerId, message: &str) -> OutboxRow {
    OutboxRow {
        seq: 0,
        peer,
        message: message.into(),
        queue: "work".into(),
        action: "do".into(),
        task: "t".into(),
        carries_task: true,
        pin: None,
        body: r#"{"data": 1}"#.into(),
        expires_at: None,
        attempts: 0,
        due_at: at(0),
        created_at: at(0),
        moot: false,
    }
}

/// Saves in a transaction of its own.
pub(super) async fn save(writer: &mut Writer, writes: &Writes<'_>) {
    writer.begin().await.unwrap();
    writer.save(writes).await.unwrap();
    writer.commit().await.unwrap();
}

pub(super) async fn create(writer: &mut Writer, tasks: &[NewTask]) {
    let created = tasks.iter().map(|task| (task, &task.state, None)).collect();
    let writes = Writes {
        created,
        ..Writes::default()
    };
    save(writer, &writes).await;
}

pub(super) async fn change(writer: &mut Writer, state: &TaskState, output: Option<&Json>) {
    let writes = Writes {
        changed: vec![(state, output)],
        ..Writes::default()
    };
    save(writer, &writes).await;
}

pub(super) async fn accept(writer: &mut Writer, rows: &[InboxRow]) {
    let writes = Writes {
        accepted: rows,
        ..Writes::default()
    };
    save(writer, &writes).await;
}

pub(super) async fn send(writer: &mut Writer, rows: &[OutboxRow]) {
    let writes = Writes {
        outgoing: rows,
        ..Writes::default()
    };
    save(writer, &writes).await;
}

pub(super) async fn settle(writer: &mut Writer, settled: Settled<'_>) {
    let writes = Writes {
        settled: vec![settled],
        ..Writes::default()
    };
    save(writer, &writes).await;
}

/// Loads one task, in a transaction that changes nothing.
pub(super) async fn load(writer: &mut Writer, id: &str) -> Option<TaskState> {
    writer.begin().await.unwrap();
    let tasks = writer
        .load(&crate::store::Lookup::new(&[&id.into()], &[]))
        .await
        .unwrap()
        .tasks;
    writer.rollback().await.unwrap();
    tasks.into_iter().next()
}

/// The waiting tasks of `work`, as many as `limit`, started by `node`.
pub(super) async fn claim(
    writer: &mut Writer,
    node: NodeId,
    limit: i64,
    now: Timestamp,
) -> Vec<TaskState> {
    writer.begin().await.unwrap();
    let waiting = writer.waiting("work", limit, now).await.unwrap();
    let claimed: Vec<TaskState> = waiting
        .into_iter()
        .map(|crate::store::Waiting { state, .. }| TaskState {
            status: Status::Executing,
            owner: Some(node),
            epoch: state.epoch + 1,
            attempt: state.attempt + 1,
            ..state
        })
        .collect();
    let changed = claimed.iter().map(|state| (state, None)).collect();
    let writes = Writes {
        changed,
        ..Writes::default()
    };
    writer.save(&writes).await.unwrap();
    writer.commit().await.unwrap();
    claimed
}
