//! The handle of the running peer, for views, handlers and tests.

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

/// How long to wait for a notification before the row is read again: another process of this peer
/// may end a task without one.
const READ_AGAIN: Duration = Duration::from_secs(60);

/// A handle of this peer: it sends tasks and reads results. Cheap to clone; axum views take it as
/// `State<Frestq>`.
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

    /// The value of this type that `app.state(...)` provided.
    pub fn state<T: Clone + Send + Sync + 'static>(&self) -> Option<T> {
        self.states.get()
    }

    /// The application's own settings, declared by `app.settings::<T>()`.
    ///
    /// # Panics
    ///
    /// Panics if the application has not declared settings of this type. That is a mistake in its
    /// code; no configuration causes it.
    #[track_caller]
    pub fn settings<T: Send + Sync + 'static>(&self) -> Arc<T> {
        match self.states.get::<Settings<T>>() {
            Some(Settings(settings)) => settings,
            None => panic!(
                "the application has no settings of type {name}; add `.settings::<{name}>()` to it",
                name = std::any::type_name::<T>(),
            ),
        }
    }

    /// The address of this peer's database, for a pool of your own that reads from your tables.
    ///
    /// Writes belong in a task's transaction ([`Task::transaction`](crate::Task::transaction)).
    pub fn database(&self) -> String {
        self.services.config.database()
    }

    /// The configuration in force.
    pub fn config(&self) -> &Config {
        &self.services.config
    }

    /// Sends a task.
    ///
    /// When this returns, the task is stored on this peer. Its delivery goes on until it
    /// succeeds, is rejected, or the task expires. If an open task has the same unique key,
    /// nothing is sent, and the handle is that of the open task.
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
    /// [`Error::PeerUrl`] or [`Error::Json`] for an invalid address or payload,
    /// [`Error::Invalid`] for texts longer than the protocol allows, [`Error::Database`] if the
    /// task could not be stored. In each case nothing was sent.
    pub async fn send<C: Compose>(&self, task: C) -> Result<TaskHandle<C::Output>> {
        // Boxed, so that the futures of all waiting senders stay small.
        let tree = Box::pin(plan(&self.services, vec![task.into_node().0], None)).await?;
        // Each draft becomes a row, the root first.
        let root = tree.first().map(|root| root.state.id.clone());
        let id = root.ok_or_else(|| Error::Invalid("a tree without a root".into()))?;
        // Watched before it is stored, so that waiting for its output needs no read.
        let watch = self.services.notifier.watchers.watch(&id);
        let answer = self
            .services
            .commits
            .submit(vec![Event::Send(tree)])
            .await?
            .pop();
        let (id, watch) = match answer {
            Some(Answer::Known(open)) => {
                // It may end before it is watched, so its row is read first.
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

    /// A task of this peer that waits for a person's decision.
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

    /// Cancels a task with its whole subtree, on every peer that can be notified.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownTask`], [`Error::Invalid`] if it has ended, or errors of the database.
    pub async fn cancel(&self, id: &TaskId, why: impl Into<String>) -> Result<()> {
        let why = why.into();
        let event = Event::Cancel {
            id: id.clone(),
            why: why.clone(),
        };
        self.decide(id, ("cancel", &why), event).await
    }

    /// Stores the progress of a run.
    pub(crate) async fn progress(&self, id: &TaskId, epoch: i64, progress: Json) -> Result<()> {
        let event = Event::Progress {
            id: id.clone(),
            epoch,
            progress,
        };
        self.services.commits.submit(vec![event]).await.map(drop)
    }

    /// Submits a decision of the application about one task, with its audit entry.
    async fn decide(
        &self,
        id: &TaskId,
        (kind, argument): (&str, &str),
        event: Event,
    ) -> Result<()> {
        let now = self.services.clock.now();
        let entry = Entry {
            task: Some(id.as_str().into()),
            ..Entry::decided(now, APPLICATION, kind, argument).answered("done")
        };
        self.services.commits.decide(id, event, entry).await
    }

    /// Reads the task with this id, as it is stored.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownTask`] if there is none; errors of the database.
    pub async fn task(&self, id: &TaskId) -> Result<TaskRecord> {
        self.services
            .store
            .task(id)
            .await?
            .ok_or_else(|| Error::UnknownTask(id.clone()))
    }

    /// Waits until the task has ended, without a time limit.
    async fn ended(&self, id: &TaskId, mut watch: Option<Watch>) -> Result<Ended> {
        loop {
            if let Some(mut watch) = watch.take()
                && let Ok(Some(ended)) = tokio::time::timeout(READ_AGAIN, watch.ended()).await
            {
                return Ok(ended);
            }
            let next = self.services.notifier.watchers.watch(id);
            // Boxed, since it is rare, so that the futures of all waiting callers stay small.
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

/// An external task, which waits for a person's decision.
#[derive(Clone, Debug)]
pub struct ExternalTask {
    peer: Frestq,
    id: TaskId,
}

impl ExternalTask {
    /// Finishes the task with this output.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownTask`]; [`Error::Invalid`] if the task is not external, has ended, or does
    /// not wait yet because an earlier task of its tree has not ended; errors of the database.
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

    /// Ends the task with the error `denied` and this reason.
    ///
    /// # Errors
    ///
    /// The errors of [`finish`](Self::finish).
    pub async fn deny(&self, reason: impl Into<String>) -> Result<()> {
        let reason = reason.into();
        let event = Event::FinishExternal {
            id: self.id.clone(),
            outcome: Err(TaskError::new(TaskError::DENIED, reason.clone())),
        };
        self.peer.decide(&self.id, ("deny", &reason), event).await
    }
}

/// A task that was sent: its id, and its result once it has ended.
#[derive(Debug)]
pub struct TaskHandle<T = serde_json::Value> {
    peer: Frestq,
    id: TaskId,
    /// Taken by the first wait; later ones read the row first.
    watch: Mutex<Option<Watch>>,
    output: PhantomData<fn() -> T>,
}

impl<T> TaskHandle<T> {
    /// The task's id.
    pub fn id(&self) -> &TaskId {
        &self.id
    }

    /// Reads the task's status.
    ///
    /// # Errors
    ///
    /// Errors of the database.
    pub async fn status(&self) -> Result<Status> {
        Ok(self.peer.task(&self.id).await?.status)
    }

    /// Waits until the task ends, and returns its output.
    ///
    /// There is no time limit other than the task's expiration date. Dropping the future stops
    /// the waiting, not the task.
    ///
    /// # Errors
    ///
    /// [`Error::Task`] with the task's error, [`Error::Json`] if the output has another shape
    /// than `T`, [`Error::Pruned`] if the task was pruned before this read its output, or errors
    /// of the database.
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
