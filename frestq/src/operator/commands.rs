//! The operator's commands: cancel, finish, deny, retry and prune tasks, register and remove
//! peers.
//!
//! Only the serving process changes tasks, so the command line stores a request in the database,
//! and that process carries it out ([`serve_requests`]). If no process is serving,
//! [`run_offline`] starts a committer without slots: it decides and writes, and neither runs nor
//! delivers anything.

use std::{borrow::Cow, sync::Arc, time::Duration};

use humantime_serde::re::humantime::{format_duration, parse_duration};
use tokio::{sync::mpsc, time::MissedTickBehavior};

use super::{peers, retry};
use crate::{
    commit::{
        Committer, UncertainCommit, admission::Admission, audit_chain::AuditChain,
        queue::CommitQueue, slots::Slots, task_cache::TaskCache,
    },
    config::Config,
    engine::{Answer, Event},
    maintenance::pruning::Pruning,
    model::{
        Json, NodeId, PeerRegistration, TaskId,
        audit::Entry,
        catalog::Catalog,
        error::{Error, Result, TaskError},
    },
    peers::registry::PeerRegistry,
    runtime::{clock::Clock, notify::Notifier},
    security::Trust,
    services::Services,
    store::{Request, Store},
};

/// How often the serving process looks for requests.
const PAUSE: Duration = Duration::from_millis(200);

/// The name of the operator in the audit.
pub(crate) const OPERATOR: &str = "operator";

/// A command of the operator about a task or a peer.
#[derive(Clone, Debug)]
pub(crate) enum OperatorCommand {
    /// Cancel the task with its subtree.
    Cancel,
    /// Finish an external task with this output.
    Finish(Json),
    /// Deny an external task, with this reason.
    Deny(String),
    /// Retry a failed task as a copy with this id. The command line chooses the id, so that a
    /// request that is carried out twice creates one copy.
    Retry(TaskId),
    /// Prune what ended longer ago than this. It is about no task.
    Prune(Duration),
    /// Register a peer, or change its registration.
    AddPeer(Box<PeerRegistration>),
    /// Remove a peer.
    RemovePeer,
}

impl OperatorCommand {
    /// The kind and the argument of the request for this command.
    pub(crate) fn parts(&self) -> Result<(&'static str, Cow<'_, str>)> {
        Ok(match self {
            OperatorCommand::Cancel => ("cancel", "".into()),
            OperatorCommand::Finish(output) => ("finish", output.get().into()),
            OperatorCommand::Deny(reason) => ("deny", reason.into()),
            OperatorCommand::Retry(fresh) => ("retry", fresh.as_str().into()),
            OperatorCommand::Prune(age) => ("prune", format_duration(*age).to_string().into()),
            OperatorCommand::AddPeer(row) => ("add_peer", serde_json::to_string(row)?.into()),
            OperatorCommand::RemovePeer => ("remove_peer", "".into()),
        })
    }

    /// Whether the command is about a task, and not about a peer.
    pub(crate) fn is_about_a_task(&self) -> bool {
        !matches!(
            self,
            OperatorCommand::AddPeer(_) | OperatorCommand::RemovePeer
        )
    }

    fn of_parts(kind: &str, argument: String) -> Result<Self> {
        Ok(match kind {
            "cancel" => OperatorCommand::Cancel,
            "finish" => {
                OperatorCommand::Finish(serde_json::value::RawValue::from_string(argument)?)
            }
            "deny" => OperatorCommand::Deny(argument),
            "retry" => OperatorCommand::Retry(argument.into()),
            "prune" => OperatorCommand::Prune(
                parse_duration(&argument)
                    .map_err(|why| Error::Invalid(format!("{argument:?}: {why}")))?,
            ),
            "add_peer" => OperatorCommand::AddPeer(serde_json::from_str(&argument)?),
            "remove_peer" => OperatorCommand::RemovePeer,
            kind => {
                return Err(Error::Invalid(format!(
                    "the serving process does not know the command {kind:?}; \
                     it may be an older version"
                )));
            }
        })
    }
}

/// Carries out operator commands.
pub(crate) struct Executor<'a> {
    pub(crate) store: &'a Store,
    pub(crate) commits: &'a CommitQueue,
    pub(crate) catalog: &'a Catalog,
    pub(crate) clock: &'a Clock,
    pub(crate) config: &'a Config,
    pub(crate) registry: &'a PeerRegistry,
}

impl<'a> Executor<'a> {
    fn of(services: &'a Services) -> Self {
        Self {
            store: &services.store,
            commits: &services.commits,
            catalog: &services.catalog,
            clock: &services.clock,
            config: &services.config,
            registry: &services.registry,
        }
    }

    fn pruning(&self) -> Pruning<'a> {
        Pruning {
            store: self.store,
            commits: self.commits,
            give_up_after: self.config.delivery.give_up_after,
        }
    }

    /// Carries out a command about the task with this id, or the peer with this name. Returns one
    /// line that says what was done.
    pub(crate) async fn carry_out(&self, id: &TaskId, command: OperatorCommand) -> Result<String> {
        let (kind, argument) = command.parts()?;
        let entry = Entry {
            task: Some(id.as_str().into()),
            ..Entry::decided(self.clock.now(), OPERATOR, kind, &argument)
        };
        let event = match command {
            OperatorCommand::Cancel => Event::Cancel {
                id: id.clone(),
                why: "cancelled by the operator".to_owned(),
            },
            OperatorCommand::Finish(output) => Event::FinishExternal {
                id: id.clone(),
                outcome: Ok(output),
            },
            OperatorCommand::Deny(reason) => Event::FinishExternal {
                id: id.clone(),
                outcome: Err(TaskError::new(TaskError::DENIED, reason)),
            },
            OperatorCommand::Retry(fresh) => return self.retry(id, &fresh, entry).await,
            OperatorCommand::Prune(age) => {
                let now = self.clock.now();
                let pruned = self.pruning().prune(age, now, OPERATOR).await?;
                return Ok(pruned.to_string());
            }
            OperatorCommand::AddPeer(row) => {
                return peers::add(self.registry, self.commits, *row, entry).await;
            }
            OperatorCommand::RemovePeer => {
                return peers::remove(self.registry, self.commits, id.as_str(), entry).await;
            }
        };
        let done = match &event {
            Event::Cancel { .. } => format!("task {id} is cancelled, with its subtree"),
            Event::FinishExternal { outcome: Ok(_), .. } => format!("task {id} is finished"),
            _ => format!("task {id} is denied"),
        };
        let entry = entry.answered(&done);
        self.commits.decide(id, event, entry).await?;
        Ok(done)
    }

    async fn retry(&self, id: &TaskId, fresh: &TaskId, entry: Entry) -> Result<String> {
        let done = format!("task {id} is retried as {fresh}");
        if self.store.task(fresh).await?.is_none() {
            let now = self.clock.now();
            let tree = retry::copy(self.store, self.catalog, id, fresh, now).await?;
            let (events, entry) = (vec![Event::Send(tree)], entry.answered(&done));
            let answer = self.commits.submit_recorded(events, entry).await?.pop();
            if let Some(Answer::Known(holder)) = answer {
                return Err(Error::Invalid(format!(
                    "task {id} is not retried: open task {holder} has the same unique key"
                )));
            }
        }
        Ok(done)
    }
}

/// Carries out a command when no process is serving.
pub(crate) async fn run_offline(
    store: &Arc<Store>,
    config: &Config,
    catalog: &Catalog,
    id: &TaskId,
    command: OperatorCommand,
) -> Result<String> {
    let clock = Clock::default();
    let trust = Arc::new(Trust::load(config)?);
    // Nothing receives the notifications: the next process to serve reads all rows when it
    // starts.
    let notifier = Arc::new(Notifier::new().0);
    let registry = PeerRegistry::new(store, trust, config.root_url()?, notifier).await?;
    let commits = without_slots(store, config, &registry, &clock).await?;
    let executor = Executor {
        store,
        commits: &commits,
        catalog,
        clock: &clock,
        config,
        registry: &registry,
    };
    let done = executor.carry_out(id, command).await;
    commits.close().await;
    done
}

/// Starts a committer that claims no tasks and whose notifications nothing receives.
pub(crate) async fn without_slots(
    store: &Arc<Store>,
    config: &Config,
    registry: &PeerRegistry,
    clock: &Clock,
) -> Result<CommitQueue> {
    let committer = Committer {
        store: store.clone(),
        writer: store.writer().await?,
        // It belongs to no node, since it owns no task.
        node: NodeId(0),
        url: config.root_url()?,
        clock: clock.clone(),
        peers: registry.peers.clone(),
        notifier: Arc::new(Notifier::new().0),
        admission: Arc::new(Admission::new(config.limits.clone())),
        // Without slots it claims nothing.
        slots: Slots::new(std::iter::empty()),
        claimed: mpsc::unbounded_channel().0,
        reservation_timeout: config.reservation_timeout,
        transaction_timeout: config.transaction_timeout,
        undone: Default::default(),
        give_up_after: config.delivery.give_up_after,
        log_payloads: config.log_payloads,
        uncertain: UncertainCommit::default(),
        standalone: None,
        audit: config.audits().then(|| AuditChain::new(config.node_name())),
        recheck_held: false,
        task_cache: TaskCache::new(false),
    };
    Ok(committer.start())
}

/// Carries out the requests of the command line, for as long as the process serves.
pub(crate) async fn serve_requests(services: &Arc<Services>) {
    let mut ticks = tokio::time::interval(PAUSE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut unavailable = false;
    loop {
        ticks.tick().await;
        match serve_pending(services).await {
            Ok(()) => unavailable = false,
            Err(error) => {
                // Logged once: the heartbeat reports it as well.
                if !unavailable {
                    tracing::warn!(
                        target: "frestq::operator",
                        error = %error.with_causes(),
                        "requests of the command line could not be read; trying again",
                    );
                }
                unavailable = true;
            }
        }
    }
}

async fn serve_pending(services: &Arc<Services>) -> Result<()> {
    while let Some(request) = services.store.take_request().await? {
        if request.kind == "prune" {
            // Pruning may take long, and other requests are waiting.
            let services = services.clone();
            tokio::spawn(async move {
                if let Err(error) = serve_one(&services, request).await {
                    tracing::warn!(
                        target: "frestq::operator",
                        error = %error.with_causes(),
                        "the answer to a prune request could not be stored",
                    );
                }
            });
            continue;
        }
        serve_one(services, request).await?;
    }
    Ok(())
}

async fn serve_one(services: &Services, request: Request) -> Result<()> {
    let Request {
        seq,
        kind,
        task,
        argument,
    } = request;
    let executor = Executor::of(services);
    let answer = match OperatorCommand::of_parts(&kind, argument) {
        Ok(command) => executor.carry_out(&task, command).await,
        Err(error) => Err(error),
    };
    match &answer {
        Ok(done) => tracing::info!(target: "frestq::operator", "command of the operator: {done}"),
        Err(error) => tracing::info!(
            target: "frestq::operator",
            task = %task,
            error = %error.with_causes(),
            "a command of the operator failed",
        ),
    }
    executor.store.answer_request(seq, &answer).await
}
