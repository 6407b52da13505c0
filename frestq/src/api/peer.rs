//! The handle to the running peer, for views, handlers and tests.

use std::{
    marker::PhantomData,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde::{Serialize, de::DeserializeOwned};

use super::{
    compose::Compose,
    states::{Settings, States},
};
use crate::{
    config::Config,
    engine::{Answer, Event},
    model::{
        Json, PeerUrl, Status, TaskId, TaskRecord,
        audit::{APPLICATION, Entry},
        error::{Error, Result, TaskError},
        to_json,
    },
    runtime::notify::{Ended, Watch},
    services::{Services, plan::plan},
};

/// Other processes of this peer may end a task without telling us; we look again after this.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// This peer: sends tasks, reads results. Cheap to clone; axum views take it as `State<Frestq>`.
#[derive(Clone)]
pub struct Frestq {
    pub(crate) services: Arc<Services>,
    pub(crate) states: Arc<States>,
}

impl Frestq {
    pub(crate) fn new(services: Arc<Services>, states: States) -> Self {
        Self {
            services,
            states: Arc::new(states),
        }
    }

    /// This peer's root queues URL.
    pub fn url(&self) -> &PeerUrl {
        &self.services.url
    }

    /// A value that `app.state(...)` provided.
    pub fn state<T: Clone + Send + Sync + 'static>(&self) -> Option<T> {
        self.states.get()
    }

    /// The application's own settings, which `app.settings::<T>()` has declared.
    ///
    /// # Panics
    ///
    /// If the application has declared none, or some of another type: a mistake in its code, which
    /// no configuration causes.
    #[track_caller]
    pub fn settings<T: Send + Sync + 'static>(&self) -> Arc<T> {
        match self.states.get::<Settings<T>>() {
            Some(Settings(settings)) => settings,
            None => panic!(
                "the application has no settings of the type {name}; add `.settings::<{name}>()` to it",
                name = std::any::type_name::<T>(),
            ),
        }
    }

    /// The address of this peer's database, for a pool of your own that reads from your tables.
    /// Writing belongs into a task's transaction ([`Task::transaction`](crate::Task::transaction)).
    pub fn database(&self) -> String {
        self.services.config.database()
    }

    /// The configuration in force.
    pub fn config(&self) -> &Config {
        &self.services.config
    }

    /// Hands a task to its peer. When this returns, the task is on this peer's disk; its delivery
    /// goes on until it succeeds, is refused, or the task expires. If the task has a unique key of which
    /// one is open already, nothing is sent, and what is returned is the open one.
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
    /// texts longer than the protocol allows, [`Error::Database`] if it could not be stored. In each
    /// case nothing was sent.
    pub async fn send<C: Compose>(&self, task: C) -> Result<TaskHandle<C::Output>> {
        // Boxed, or everybody who waits for the disk would have room for it.
        let tree = Box::pin(plan(&self.services, vec![task.into_node().0], None)).await?;
        // A draft gives a row, the root first.
        let root = tree.first().map(|root| root.state.id.clone());
        let id = root.ok_or_else(|| Error::Invalid("a tree without a root".into()))?;
        // Watched from before it exists, so that waiting for its output costs no look at the database.
        let watch = self.services.notifier.watchers.watch(&id);
        let answer = self
            .services
            .commits
            .submit(vec![Event::Send(tree)])
            .await?
            .pop();
        let (id, watch) = match answer {
            Some(Answer::Known(open)) => {
                // It may end before it is watched, so the first look is at its row.
                (open, None)
            }
            _ => (id, Some(watch)),
        };
        Ok(TaskHandle {
            peer: self.clone(),
            id,
            watch: Mutex::new(watch),
            output: PhantomData,
        })
    }

    /// A task of this peer that waits for a person.
    ///
    /// ```no_run
    /// # async fn example(peer: frestq::Frestq, id: frestq::TaskId) -> frestq::Result<()> {
    /// peer.external(id).finish("approved by ana").await?;
    /// # Ok(()) }
    /// ```
    pub fn external(&self, id: impl Into<TaskId>) -> ExternalTask {
        ExternalTask {
            peer: self.clone(),
            id: id.into(),
        }
    }

    /// Calls a task off, with its whole subtree, on every peer that can be told.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownTask`], or [`Error::Invalid`] if it has ended.
    pub async fn cancel(&self, id: &TaskId, why: impl Into<String>) -> Result<()> {
        let why = why.into();
        let asked = ("cancel", why.clone());
        let event = Event::Cancel {
            id: id.clone(),
            why,
        };
        self.decide(id, (asked.0, &asked.1), event).await
    }

    /// Notes how far the run of a task under this claim is.
    pub(crate) async fn progress(&self, id: &TaskId, epoch: i64, progress: Json) -> Result<()> {
        let event = Event::Progress {
            id: id.clone(),
            epoch,
            progress,
        };
        self.services.commits.submit(vec![event]).await.map(drop)
    }

    /// Submits a decision of the application's about one task, which is recorded.
    async fn decide(&self, id: &TaskId, asked: (&str, &str), event: Event) -> Result<()> {
        let now = self.services.clock.now();
        let entry = Entry {
            task: Some(id.as_str().into()),
            ..Entry::decided(now, APPLICATION, asked.0, asked.1).answered("done")
        };
        self.services.commits.decide(id, event, entry).await
    }

    /// The task of this id, as it is on disk.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownTask`] if there is none.
    pub async fn task(&self, id: &TaskId) -> Result<TaskRecord> {
        self.services
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
            let next = self.services.notifier.watchers.watch(id);
            // Boxed, since it is rare, and all who wait would have room for it.
            let task = Box::pin(self.task(id)).await?.unless_pruned()?;
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
            .field("url", &self.services.url)
            .finish_non_exhaustive()
    }
}

/// A task that waits for a person's decision.
#[derive(Clone, Debug)]
pub struct ExternalTask {
    peer: Frestq,
    id: TaskId,
}

impl ExternalTask {
    /// Ends it well; what is given is its output.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownTask`]; [`Error::Invalid`] if the task is not external, has ended before, or
    /// does not wait yet because something before it in its tree has not ended.
    pub async fn finish(&self, output: impl Serialize) -> Result<()> {
        let output = to_json(&output)?;
        let event = Event::FinishExternal {
            id: self.id.clone(),
            outcome: Ok(output.clone()),
        };
        self.peer
            .decide(&self.id, ("finish", output.get()), event)
            .await
    }

    /// Ends it in error `denied`.
    ///
    /// # Errors
    ///
    /// Those of [`finish`](Self::finish).
    pub async fn deny(&self, reason: impl Into<String>) -> Result<()> {
        let reason = reason.into();
        let event = Event::FinishExternal {
            id: self.id.clone(),
            outcome: Err(TaskError::new(TaskError::DENIED, reason.clone())),
        };
        self.peer.decide(&self.id, ("deny", &reason), event).await
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
    /// [`Error::Task`] with what it failed with, [`Error::Json`] if the output is of another shape
    /// than `T`, or [`Error::Pruned`] if it was waited for so late that nothing is left.
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
