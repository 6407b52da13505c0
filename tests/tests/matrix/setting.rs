//! The peer that the matrix is about, those around it, and tasks of every state.

use jiff::{Timestamp, ToSpan as _};
use serde_json::{Value, json};

use super::model::{Kind, Sender, State};
use crate::harness::{
    Answer, Fake, Peer, Store, Window, free_port, id, message,
    secure::{behind_tls, certificate, client, post, secured},
    text, until, update, url_of,
};

/// Every column of a task's row, and how many messages wait for others because of it.
const ROW: &[&str] = &[
    "kind",
    "role",
    "peer",
    "queue",
    "action",
    "status",
    "parent",
    "ord",
    "open_children",
    "on_failure",
    "moment",
    "round",
    "reserved",
    "wake_at",
    "priority",
    "attempt",
    "failures",
    "epoch",
    "owner",
    "rev",
    "run_at",
    "expires_at",
    "pingback_at",
    "created_at",
    "modified_at",
    "label",
    "info",
    "input",
    "reservation",
    "progress",
    "unique_key",
    "first_input",
    "length(certificate)",
    "pruned_at",
    "output",
    "(SELECT count(*) FROM outbox WHERE outbox.task = tasks.id)",
];

/// Where tasks wait for ever: there is one slot, and it is taken.
const FULL: (&str, &str) = ("narrow", "wait");
/// Where tasks can reserve.
const STAGE: (&str, &str) = ("stage", "play");

/// What both registered peers may ask for.
const GRANTS: &str = r#"["work/echo", "work/fail", "work/note", "work/private", "work/until_cancelled", "narrow/*", "stage/*"]"#;

/// A task that a message is about.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub(super) id: String,
    /// The synchronized group that it is a part of.
    pub(super) group: Option<String>,
    address: (&'static str, &'static str),
}

impl Subject {
    /// One that nobody knows.
    pub(super) fn unknown() -> Self {
        Self::new(id(), STAGE)
    }

    fn new(id: String, address: (&'static str, &'static str)) -> Self {
        Self {
            id,
            group: None,
            address,
        }
    }
}

/// B serves; A, of which the test plays one part, and C are registered with it.
pub(super) struct Setting {
    pub(super) b: Peer,
    /// Takes what B sends to A.
    a: Fake,
    c_url: String,
    pins: [String; 3],
    clients: Vec<(&'static str, reqwest::Client)>,
    window: Window,
}

impl Setting {
    pub(super) async fn new(store: &Store) -> Self {
        let (mut b, _) = secured(store, "b").await;
        let pins = ["old", "new", "c"].map(|name| certificate(&b, name));
        certificate(&b, "stranger");
        let clients = ["old", "new", "c", "stranger"].map(|name| (name, client(&b, name)));
        b.set("FRESTQ_QUEUES__NARROW__CONCURRENCY", "1");
        b.set("FRESTQ_RESERVATION_TIMEOUT", "2h");
        let mut setting = Self {
            a: behind_tls(Fake::new().await, &b, "new").await,
            c_url: url_of(free_port()).replace("http:", "https:"),
            clients: clients.into(),
            window: b.database.window().await,
            pins,
            b,
        };
        let [old, new, _] = setting.pins.clone();
        setting.write_peers(&[&old, &new]);
        setting.b.run().await;
        let blocker = message(&setting.a.url, "wait", json!({"gate": "never"}));
        setting.give("narrow", &blocker).await;
        setting
            .settle(text(&blocker, "task_id"), "status = 5")
            .await;
        setting
    }

    fn write_peers(&self, a_pins: &[&str]) {
        let (a_url, c_url, [.., c_pin]) = (&self.a.url, &self.c_url, &self.pins);
        let peers = format!(
            "[peers.a]\nurl = {a_url:?}\ncertificates = {a_pins:?}\nallow = {GRANTS}\n
            [peers.c]\nurl = {c_url:?}\ncertificates = [{c_pin:?}]\nallow = {GRANTS}\n"
        );
        std::fs::write(self.b.file("frestq.toml"), peers).unwrap();
    }

    /// From now on A is known by its new certificate alone.
    pub(super) async fn remove_the_old_pin(&self) {
        self.write_peers(&[&self.pins[1]]);
        self.b.hang_up();
        until("B has read its peers again", async || {
            self.b.log().contains("SIGHUP")
        })
        .await;
    }

    fn client(&self, sender: Sender) -> &reqwest::Client {
        let name = match sender {
            Sender::OldPin | Sender::RemovedPin => "old",
            Sender::NewPin => "new",
            Sender::Other | Sender::OtherAsOwner => "c",
            Sender::Stranger => "stranger",
            Sender::Nobody => return &self.b.http,
        };
        let client = self.clients.iter().find(|(known, _)| *known == name);
        &client.unwrap().1
    }

    /// The address that a sender says is its own.
    pub(super) fn url(&self, sender: Sender) -> &str {
        match sender {
            Sender::Other => &self.c_url,
            _ => &self.a.url,
        }
    }

    /// A message about a task, and its queue.
    pub(super) fn message(
        &self,
        kind: Kind,
        sender: Sender,
        about: &Subject,
    ) -> (&'static str, Value) {
        const INTERNAL: &str = "internal.frestq";
        let (queue, action) = about.address;
        let perform = json!({"task_id": about.id, "queue_name": queue, "action": action, "input_data": {"forged": true}});
        let forged = |status| json!({"status": status, "output_data": "forged"});
        let confirm = json!({"reservation_data": "forged", "reservation_expiration_seconds": 7200});
        let (queue, action, data, ext) = match kind {
            Kind::NewTask => ("work", "echo", json!("forged"), json!({})),
            Kind::Raw => ("work", "note", json!("said"), json!({})),
            Kind::Local => ("work", "private", json!(null), json!({})),
            Kind::Ungranted => ("work", "coded", json!(null), json!({})),
            Kind::Finish => (
                INTERNAL,
                "frestq.update_task",
                forged("finished"),
                json!({}),
            ),
            Kind::Progress => (
                INTERNAL,
                "frestq.update_task",
                forged("executing"),
                json!({}),
            ),
            Kind::Stale => (
                INTERNAL,
                "frestq.update_task",
                forged("finished"),
                json!({"rev": 0}),
            ),
            Kind::Confirm => (
                INTERNAL,
                "frestq.confirm_task_reservation",
                confirm,
                json!({"round": 1}),
            ),
            Kind::Refuse => (
                INTERNAL,
                "frestq.refuse_reservation",
                json!(null),
                json!({"round": 1}),
            ),
            Kind::Synchronize => (
                INTERNAL,
                "frestq.synchronize_task",
                perform,
                json!({"round": 7}),
            ),
            Kind::Execute => (INTERNAL, "frestq.execute_synchronized", perform, json!({})),
            Kind::Cancel => (INTERNAL, "frestq.cancel_task", json!(null), json!({})),
            Kind::Release => (
                INTERNAL,
                "frestq.cancel_reservation",
                json!(null),
                json!({}),
            ),
            Kind::FinishExternal => (
                INTERNAL,
                "frestq.finish_external_task",
                json!("forged"),
                json!({}),
            ),
            Kind::NoSuch => (INTERNAL, "frestq.finish_task", json!("forged"), json!({})),
        };
        let mut message = message(self.url(sender), action, data);
        message["task_id"] = json!(about.id);
        message["ext"] = ext;
        (queue, message)
    }

    pub(super) async fn post(&self, sender: Sender, queue: &str, message: &Value) -> Answer {
        post(&self.b, self.client(sender), queue, message).await
    }

    /// Posts messages in one batch.
    pub(super) async fn post_batch(
        &self,
        sender: Sender,
        messages: &[(&'static str, Value)],
    ) -> Answer {
        let entries: Vec<_> = messages
            .iter()
            .map(|(queue, message)| json!({"queue": queue, "message": message}))
            .collect();
        let batch = message(self.url(sender), "frestq.batch", json!(entries));
        self.post(sender, "internal.frestq", &batch).await
    }

    /// A gives something to B that it takes.
    async fn give(&self, queue: &str, message: &Value) {
        let answer = self.post(Sender::NewPin, queue, message).await;
        assert_eq!(answer.status, 200, "{message}: {}", answer.body);
    }

    async fn tell(&self, kind: Kind, about: &Subject) {
        let (queue, message) = self.message(kind, Sender::NewPin, about);
        self.give(queue, &message).await;
    }

    /// Waits until this holds for the row of a task.
    pub(super) async fn settle(&mut self, id: &str, condition: &str) {
        let sql = format!("SELECT id FROM tasks WHERE id = '{id}' AND {condition}");
        until(&format!("of {id}: {condition}"), async || {
            !self.window.texts(&sql).await.is_empty()
        })
        .await;
    }

    /// The whole row of a task, as text.
    pub(super) async fn row(&mut self, id: &str) -> Option<String> {
        let columns: Vec<_> = ROW
            .iter()
            .map(|column| format!("COALESCE(CAST({column} AS TEXT), '-')"))
            .collect();
        let columns = columns.join(" || '|' || ");
        let sql = format!("SELECT {columns} FROM tasks WHERE id = '{id}'");
        self.window.texts(&sql).await.pop()
    }

    /// How many tasks, messages taken in, and peers there are.
    pub(super) async fn counts(&mut self) -> String {
        let counts = ["tasks", "inbox", "peers"]
            .map(|table| format!("(SELECT CAST(count(*) AS TEXT) FROM {table})"));
        let sql = format!("SELECT {}", counts.join(" || '|' || "));
        self.window.texts(&sql).await.remove(0)
    }

    /// The address of the peer that has sent a task here.
    pub(super) async fn sender_of(&mut self, id: &str) -> Option<String> {
        let sql = format!(
            "SELECT peers.url FROM tasks JOIN peers ON peers.id = tasks.peer WHERE tasks.id = '{id}' AND role = 1"
        );
        self.window.texts(&sql).await.pop()
    }

    /// A new task of this state.
    pub(super) async fn make(&mut self, state: State) -> Subject {
        match state {
            State::Unknown => Subject::unknown(),
            State::Waiting => {
                self.received(FULL, json!({"gate": "never"}), "status = 0")
                    .await
            }
            State::Running => {
                let address = ("work", "until_cancelled");
                self.received(address, json!(null), "status = 5").await
            }
            State::Finished => {
                self.received(("work", "echo"), json!(1), "status = 10")
                    .await
            }
            State::Failed => {
                self.received(("work", "fail"), json!("told"), "status = 11")
                    .await
            }
            State::Cancelled => {
                let task = self
                    .received(FULL, json!({"gate": "never"}), "status = 0")
                    .await;
                self.tell(Kind::Cancel, &task).await;
                self.settled(task, "status = 13").await
            }
            State::Expired => {
                let mut order = message(&self.a.url, FULL.1, json!({"gate": "never"}));
                let soon = Timestamp::now() + 100.milliseconds();
                order["expiration_date"] = json!(soon.to_string());
                self.give(FULL.0, &order).await;
                let task = Subject::new(text(&order, "task_id").to_owned(), FULL);
                self.settled(task, "status = 12").await
            }
            State::Syncing => self.asked_for(FULL, "status = 2").await,
            State::Confirmed => {
                let task = self.asked_for(FULL, "status = 2").await;
                self.tell(Kind::Execute, &task).await;
                self.settled(task, "status = 4").await
            }
            State::Reserved => self.asked_for(STAGE, "status = 3").await,
            State::Released => {
                let task = self.asked_for(STAGE, "status = 3").await;
                self.tell(Kind::Release, &task).await;
                self.settled(task, "status = 0 AND moment = 0 AND owner IS NULL")
                    .await
            }
            State::Delayed => {
                self.sent(json!({"delay_ms": 7_200_000}), "status = 0")
                    .await
            }
            State::Sent => self.sent(json!({}), "status = 1").await,
            State::Executing => {
                let task = self.sent(json!({}), "status = 1").await;
                self.tell(Kind::Progress, &task).await;
                self.settled(task, "status = 5").await
            }
            State::SentFinished => {
                let task = self.sent(json!({}), "status = 1").await;
                self.tell(Kind::Finish, &task).await;
                self.settled(task, "status = 10").await
            }
            State::SentFailed => {
                let task = self.sent(json!({}), "status = 1").await;
                let failed = update(&self.a.url, &task.id, "error", json!("told"));
                self.give("internal.frestq", &failed).await;
                self.settled(task, "status = 11").await
            }
            State::SentCancelled => {
                let task = self.sent(json!({}), "status = 1").await;
                let told = self.b.cli(&["--cancel", &task.id]);
                assert!(told.status.success(), "{told:?}");
                self.settled(task, "status = 13").await
            }
            State::SentExpired => {
                self.sent(json!({"expires_in_ms": 100}), "status = 12")
                    .await
            }
            State::Asked => self.asked().await,
            State::AskedAndConfirmed => {
                let task = self.asked().await;
                self.tell(Kind::Confirm, &task).await;
                self.settled(task, "status = 4").await
            }
            State::External => {
                let task = self.b.plant(&json!("external")).await;
                self.settled(Subject::new(task, FULL), "status = 5").await
            }
            State::OwnRunning => self.own("until_cancelled", "status = 5").await,
            State::OwnFinished => self.own("private", "status = 10").await,
        }
    }

    async fn settled(&mut self, task: Subject, condition: &str) -> Subject {
        self.settle(&task.id, condition).await;
        task
    }

    /// A task that A hands to B.
    async fn received(
        &mut self,
        address: (&'static str, &'static str),
        input: Value,
        condition: &str,
    ) -> Subject {
        let order = message(&self.a.url, address.1, input);
        self.give(address.0, &order).await;
        let task = Subject::new(text(&order, "task_id").to_owned(), address);
        self.settled(task, condition).await
    }

    /// A task of a synchronized group of A's, for which B is to reserve.
    async fn asked_for(
        &mut self,
        address: (&'static str, &'static str),
        condition: &str,
    ) -> Subject {
        let task = Subject::new(id(), address);
        let (queue, mut message) = self.message(Kind::Synchronize, Sender::NewPin, &task);
        message["ext"]["round"] = json!(1);
        message["data"]["input_data"] = json!({});
        self.give(queue, &message).await;
        self.settled(task, condition).await
    }

    /// A task that B hands to A.
    async fn sent(&mut self, options: Value, condition: &str) -> Subject {
        let (queue, action) = FULL;
        let mut order = json!({"to": self.a.url, "queue": queue, "action": action});
        for (option, value) in options.as_object().unwrap() {
            order[option] = value.clone();
        }
        let task = Subject::new(self.b.order(&order).await, FULL);
        self.settled(task, condition).await
    }

    /// A task of a synchronized group of B's, for which A is to reserve; there is another one in it.
    async fn asked(&mut self) -> Subject {
        let task =
            json!({"task": {"to": self.a.url, "queue": STAGE.0, "action": STAGE.1, "data": {}}});
        let group = self.b.plant(&json!({"synchronized": [task, task]})).await;
        let sql = format!("SELECT id FROM tasks WHERE parent = '{group}' AND ord = 0");
        let child = self.window.texts(&sql).await.remove(0);
        let task = Subject {
            group: Some(group),
            ..Subject::new(child, STAGE)
        };
        self.settled(task, "status = 1").await
    }

    /// A task of B's own.
    async fn own(&mut self, action: &str, condition: &str) -> Subject {
        let task = self.b.send(&self.b.url, "work", action, json!(null)).await;
        self.settled(Subject::new(task, FULL), condition).await
    }
}
