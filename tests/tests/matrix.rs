//! Every kind of message, from everybody, about tasks of every state: what is answered, and what becomes
//! of the task's row. The cells are generated, and a model beside the code says what is to come of each.

mod model;
mod setting;

use std::collections::HashMap;

use serde_json::json;

use crate::harness::{Answer, Store, until};
use model::{Effect, Expected, Kind, Sender, State, expected};
use setting::{Setting, Subject};

/// While A's certificates are both good.
const BEFORE: [Sender; 6] = [
    Sender::Other,
    Sender::OtherAsOwner,
    Sender::Stranger,
    Sender::Nobody,
    Sender::OldPin,
    Sender::NewPin,
];
/// After the old one was taken out.
const AFTER: [Sender; 2] = [Sender::RemovedPin, Sender::NewPin];

on_each_store! {
    async fn nobody_but_its_owner_changes_a_task_and_he_only_as_its_state_allows(store) {
        let mut matrix = Matrix::new(&store).await;
        matrix.all(&BEFORE).await;
        matrix.setting.remove_the_old_pin().await;
        matrix.all(&AFTER).await;
        matrix.conclude().await;
    }
}

struct Matrix {
    setting: Setting,
    /// A task for each state, which nothing changes that is sent about it.
    standing: Vec<(State, Subject)>,
    rows: HashMap<String, String>,
    /// What a message is answered that is about nobody's task, by its kind and sender.
    unknown: HashMap<String, String>,
    cells: usize,
    effects: usize,
    faults: Vec<String>,
}

impl Matrix {
    async fn new(store: &Store) -> Self {
        let mut setting = Setting::new(store).await;
        let (mut standing, mut rows) = (Vec::new(), HashMap::new());
        for state in State::ALL {
            let subject = setting.make(*state).await;
            if let Some(row) = setting.row(&subject.id).await {
                rows.insert(subject.id.clone(), row);
            }
            standing.push((*state, subject));
        }
        Self {
            setting,
            standing,
            rows,
            unknown: HashMap::new(),
            cells: 0,
            effects: 0,
            faults: Vec::new(),
        }
    }

    /// All cells of these senders, each message by itself and in a batch.
    async fn all(&mut self, senders: &[Sender]) {
        for (state, subject) in self.standing.clone() {
            for sender in senders {
                let mut harmless = Vec::new();
                for kind in Kind::ALL {
                    let expected = expected(kind, *sender, state);
                    if expected.effect == Effect::None {
                        self.cell(kind, *sender, &subject, expected).await;
                        harmless.push((kind, expected));
                    } else {
                        for batched in [false, true] {
                            self.effective(kind, *sender, state, expected, batched)
                                .await;
                        }
                    }
                }
                self.batch(*sender, state, &subject, &harmless).await;
            }
        }
    }

    /// A message that must not change the task.
    async fn cell(&mut self, kind: Kind, sender: Sender, about: &Subject, expected: Expected) {
        let cell = format!("{kind:?} from {sender:?} about {about:?}");
        let before = self.setting.counts().await;
        let (queue, message) = self.setting.message(kind, sender, about);
        let answer = self.setting.post(sender, queue, &message).await;
        self.check(&cell, answer.status == expected.status, || {
            format!("{} {}", answer.status, answer.body)
        });
        if answer.status == 404 || answer.status == 403 {
            let said = as_text(&answer);
            let known = self.unknown.entry(format!("{kind:?} {sender:?}"));
            let first = known.or_insert_with(|| said.clone()).clone();
            self.check(&cell, first == said, || format!("{said} and not {first}"));
        }
        if expected.status != 200 {
            let after = self.setting.counts().await;
            self.check(&cell, before == after, || {
                format!("{before} became {after}")
            });
        }
        self.unchanged(&cell, about).await;
    }

    /// All of those messages in one batch.
    async fn batch(
        &mut self,
        sender: Sender,
        state: State,
        about: &Subject,
        kinds: &[(Kind, Expected)],
    ) {
        let cell = format!("a batch from {sender:?} about {state:?}");
        let messages: Vec<_> = kinds
            .iter()
            .map(|(kind, _)| self.setting.message(*kind, sender, about))
            .collect();
        let answer = self.setting.post_batch(sender, &messages).await;
        let all: Vec<_> = kinds.iter().map(|(_, expected)| expected.status).collect();
        if answer.status == 200 {
            let answers = answer.json();
            let statuses: Vec<_> = answers
                .as_array()
                .unwrap()
                .iter()
                .map(|one| one["status"].clone())
                .collect();
            self.check(&cell, json!(statuses) == json!(all), || {
                format!("{statuses:?} and not {all:?}")
            });
        } else {
            let refused = answer.status == 403 && all.iter().all(|status| *status == 403);
            self.check(&cell, refused, || {
                format!("{} {}", answer.status, answer.body)
            });
        }
        self.cells += kinds.len();
        self.unchanged(&cell, about).await;
    }

    /// A message that does something, to a task of its own.
    async fn effective(
        &mut self,
        kind: Kind,
        sender: Sender,
        state: State,
        expected: Expected,
        batched: bool,
    ) {
        let about = self.setting.make(state).await;
        let cell = format!("{kind:?} from {sender:?} about a new {state:?}, batched: {batched}");
        let before = self.setting.row(&about.id).await;
        let group_before = self.row_of_group(&about).await;
        let (queue, message) = self.setting.message(kind, sender, &about);
        let status = if batched {
            let answer = self.setting.post_batch(sender, &[(queue, message)]).await;
            answer.json()[0]["status"].clone()
        } else {
            json!(self.setting.post(sender, queue, &message).await.status)
        };
        self.check(&cell, status == expected.status, || status.to_string());
        self.effects += 1;
        match expected.effect {
            Effect::None => unreachable!("it does something"),
            Effect::Appears => {
                let url = self.setting.url(sender).to_owned();
                let of = self.setting.sender_of(&about.id).await;
                self.check(&cell, of.as_deref() == Some(&*url), || {
                    format!("a task of {of:?}")
                });
            }
            Effect::Becomes(statuses) => {
                let codes: Vec<_> = statuses.iter().map(|status| code(status)).collect();
                let condition = format!("status IN ({})", codes.join(", "));
                self.setting.settle(&about.id, &condition).await;
                let after = self.setting.row(&about.id).await;
                self.check(&cell, before != after, || "no effect".to_owned());
            }
            Effect::OnGroup => {
                let after = self.row_of_group(&about).await;
                self.check(&cell, group_before != after, || "no effect".to_owned());
            }
        }
    }

    async fn row_of_group(&mut self, subject: &Subject) -> Option<String> {
        self.setting.row(subject.group.as_deref()?).await
    }

    async fn unchanged(&mut self, cell: &str, subject: &Subject) {
        let row = self.setting.row(&subject.id).await;
        let before = self.rows.get(&subject.id).cloned();
        self.check(cell, row == before, || format!("{before:?} became {row:?}"));
        if let Some(row) = row {
            // So that one change counts as one fault.
            self.rows.insert(subject.id.clone(), row);
        }
    }

    fn check(&mut self, cell: &str, holds: bool, why: impl FnOnce() -> String) {
        self.cells += 1;
        if !holds {
            self.faults.push(format!("{cell}: {}", why()));
        }
    }

    async fn conclude(mut self) {
        for (state, subject) in self.standing.clone() {
            self.unchanged(&format!("in the end, {state:?}"), &subject)
                .await;
        }
        let first: Vec<_> = self.faults.iter().take(20).collect();
        assert!(first.is_empty(), "{} faults: {first:#?}", self.faults.len());
        // The owner's own messages do what those of the others don't.
        assert!(
            self.effects >= 100 && self.cells > 4000,
            "{} {}",
            self.effects,
            self.cells
        );
        let b = &self.setting.b;
        let hello = b.send(&b.url, "work", "echo", json!("still here")).await;
        until("B still works", async || {
            b.task(&hello).await["status"] == "finished"
        })
        .await;
    }
}

/// All of an answer that its sender sees, but the time.
fn as_text(answer: &Answer) -> String {
    let mut headers = answer.headers.clone();
    headers.remove("date");
    format!("{} {headers:?} {}", answer.status, answer.body)
}

/// The number of a status in the database.
fn code(status: &str) -> &'static str {
    match status {
        "created" => "0",
        "syncing" => "2",
        "reserved" => "3",
        "confirmed" => "4",
        "executing" => "5",
        "finished" => "10",
        "error" => "11",
        "cancelled" => "13",
        other => panic!("no effect has the status {other}"),
    }
}
