//! The handle to the running peer, for views, handlers and tests.

use std::{
    marker::PhantomData,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde::de::DeserializeOwned;

use crate::{
    admission::Admission,
    clock::Clock,
    commit::Commits,
    compose::{Draft, SimpleTask, When},
    config::Config,
    engine::Event,
    error::{Error, Result, TaskError},
    handler::States,
    model::{NewTask, PeerId, PeerUrl, Role, Status, TaskId, TaskKind, TaskRecord, TaskState},
    peers::Peers,
    registry::Registry,
    signals::{Ended, Signals, Watch},
    store::Store,
};

/// Other processes of this peer may end a task without telling us; we look again after this.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// This peer: sends tasks, reads results. Cheap to clone; axum views take it as `State<Frestq>`.
#[derive(Clone)]
pub struct Frestq(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) url: PeerUrl,
    pub(crate) config: Config,
    pub(crate) states: States,
    pub(crate) registry: Registry,
    pub(crate) store: Arc<Store>,
    pub(crate) peers: Arc<Peers>,
    pub(crate) commits: Commits,
    pub(crate) signals: Arc<Signals>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) clock: Clock,
}

impl Frestq {
    /// This peer's root queues URL.
    pub fn url(&self) -> &PeerUrl {
        &self.0.url
    }

    /// A value that `app.state(...)` provided.
    pub fn state<T: Clone + Send + Sync + 'static>(&self) -> Option<T> {
        self.0.states.get()
    }

    /// The address of this peer's database, for a pool of your own that reads from your tables.
    /// Writing belongs into a task's transaction ([`Task::transaction`](crate::Task::transaction)).
    pub fn database(&self) -> String {
        self.0.config.database()
    }

    /// The configuration in force.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// Hands a task to its peer. When this returns, the task is on this peer's disk; its delivery
    /// goes on until it succeeds, is refused, or the task expires.
    ///
    /// ```no_run
    /// # use frestq::prelude::*;
    /// # #[derive(Serialize, Deserialize, Action)]
    /// # #[action(queue = "say_queue", action = "hello_world", output = String)]
    /// # struct Hello { username: String }
    /// # async fn example(peer: Frestq) -> frestq::Result<()> {
    /// let task = peer.send(Hello { username: "ada".into() }.to("http://127.0.0.1:5001/api/queues")).await?;
    /// assert_eq!(task.output().await?, "hello ada!");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::PeerUrl`] or [`Error::Json`] for what the task was built from, [`Error::Invalid`] for
    /// texts longer than the protocol allows, [`Error::Storage`] if it could not be stored. In each
    /// case nothing was sent.
    pub async fn send<T>(&self, task: SimpleTask<T>) -> Result<TaskHandle<T>> {
        let new = self.admit(task.draft).await?;
        let id = new.state.id.clone();
        // Watched from before it exists, so that waiting for its output costs no look at the database.
        let watch = self.0.signals.watchers.watch(&id);
        self.0
            .commits
            .submit(vec![Event::Send(Box::new(new))])
            .await?;
        Ok(TaskHandle {
            peer: self.clone(),
            id,
            watch: Mutex::new(Some(watch)),
            output: PhantomData,
        })
    }

    /// Checks a draft, and makes the row of it.
    async fn admit(&self, draft: Draft) -> Result<NewTask> {
        let Draft {
            peer,
            queue,
            action,
            data,
            label,
            info,
            expires,
            pingback,
            delay,
        } = draft;
        let (url, input, now) = (peer?, data?, self.0.clock.now());
        for (what, text) in [("queue", &queue), ("action", &action)] {
            let length = text.chars().count();
            if length > 1024 || (what == "queue" && length == 0) {
                return Err(Error::Invalid(format!(
                    "a {what} of {length} characters; 1 to 1024 are allowed"
                )));
            }
        }
        if let Some(length) = info
            .as_ref()
            .map(|info| info.chars().count())
            .filter(|length| *length > 1024)
        {
            return Err(Error::Invalid(format!(
                "an info of {length} characters; at most 1024 are allowed"
            )));
        }
        let local = url == self.0.url;
        if local && self.0.registry.get(&queue, &action).is_none() {
            let known = self.0.registry.describe();
            return Err(Error::Invalid(format!(
                "this peer has no action {queue}/{action}; {known}"
            )));
        }
        let peer = if local {
            PeerId::SELF
        } else {
            self.0.peers.find_or_add(&self.0.store, &url).await?
        };
        Ok(NewTask {
            state: TaskState {
                seq: 0,
                id: TaskId::generate(),
                kind: if local {
                    TaskKind::Sequential
                } else {
                    TaskKind::Simple
                },
                role: if local { Role::Local } else { Role::Sent },
                peer,
                queue: queue.into(),
                action: action.into(),
                status: Status::Created,
                attempt: 0,
                failures: 0,
                epoch: 0,
                owner: None,
                rev: 0,
                run_at: delay
                    .map(|delay| When::In(delay).resolve(now))
                    .transpose()?,
                expires_at: expires.map(|when| when.resolve(now)).transpose()?,
                modified_at: now,
            },
            input,
            label: label.map(Into::into),
            info: info.map(Into::into),
            pingback_at: pingback.map(|when| when.resolve(now)).transpose()?,
            created_at: now,
        })
    }

    /// The task of this id, as it is on disk.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownTask`] if there is none.
    pub async fn task(&self, id: &TaskId) -> Result<TaskRecord> {
        self.0
            .store
            .task(id)
            .await?
            .ok_or_else(|| Error::UnknownTask(id.clone()))
    }

    /// Waits until the task has ended, however long that takes, and gives its output.
    async fn ended(&self, id: &TaskId, mut watch: Option<Watch>) -> Result<Ended> {
        loop {
            if let Some(mut watch) = watch.take()
                && let Ok(Some(ended)) = tokio::time::timeout(LOOK_AGAIN, watch.ended()).await
            {
                return Ok(ended);
            }
            let next = self.0.signals.watchers.watch(id);
            let task = self.task(id).await?;
            if task.status.is_terminal() {
                return Ok(Ended {
                    status: task.status,
                    output: task.output_data,
                });
            }
            watch = Some(next);
        }
    }
}

impl std::fmt::Debug for Frestq {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Frestq")
            .field("url", &self.0.url)
            .finish_non_exhaustive()
    }
}

/// A task that was sent: its id, and its result when it comes.
#[derive(Debug)]
pub struct TaskHandle<T = serde_json::Value> {
    peer: Frestq,
    id: TaskId,
    /// Taken by the first wait; later ones begin with a look at the row.
    watch: Mutex<Option<Watch>>,
    output: PhantomData<fn() -> T>,
}

impl<T> TaskHandle<T> {
    /// The task's id.
    pub fn id(&self) -> &TaskId {
        &self.id
    }

    /// How far it is.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn status(&self) -> Result<Status> {
        Ok(self.peer.task(&self.id).await?.status)
    }

    /// Waits for the task's end and gives its output. There is no time limit but the task's own
    /// expiration; dropping the future stops the waiting, never the task.
    ///
    /// # Errors
    ///
    /// [`Error::Task`] with what it failed with, or [`Error::Json`] if the output is of another
    /// shape than `T`.
    pub async fn output(&self) -> Result<T>
    where
        T: DeserializeOwned,
    {
        let watch = self
            .watch
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .take();
        let Ended { status, output } = self.peer.ended(&self.id, watch).await?;
        match status {
            Status::Finished => Ok(serde_json::from_str(output.get())?),
            _ => Err(Error::Task {
                id: self.id.clone(),
                error: Box::new(TaskError::from_output(&output)),
            }),
        }
    }
}
