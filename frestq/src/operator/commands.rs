//! What a person decides from the command line: call off, end, deny, retry, prune tasks, register a peer
//! or take it out.
//!
//! Only the serving process changes tasks, so the command line leaves a request in the database, which
//! that process takes up ([`answer`]). Where none serves, [`alone`] has a committer without
//! slots: it decides and writes, and neither runs nor delivers anything.

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

/// Who decides, as the audit has it.
pub(crate) const OPERATOR: &str = "operator";

/// What a person wants of a task, or of a peer.
#[derive(Clone, Debug)]
pub(crate) enum OperatorCommand {
    /// Call it off, with its subtree.
    Cancel,
    /// End an external task with this output.
    Finish(Json),
    /// End an external task in error, for this reason.
    Deny(String),
    /// Plant a copy of a failed task under this id: chosen by the asker, so that a request that is
    /// taken up twice has one copy.
    Retry(TaskId),
    /// Remove what has ended so long ago. It is about no task.
    Prune(Duration),
    /// Register a peer.
    AddPeer(Box<PeerRegistration>),
    /// Take a peer out.
    RemovePeer,
}

impl OperatorCommand {
    /// As a request has it: its kind and its argument.
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

    /// Whether it is about a task, and not about a peer.
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
                    "the serving process does not know what {kind:?} is; is it of an older version?"
                )));
            }
        })
    }
}

/// What it takes to carry out decisions.
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

    /// Carries out a decision about the task of this id, or the peer of this name; gives what was done in
    /// one line.
    pub(crate) async fn carry_out(&self, id: &TaskId, decision: OperatorCommand) -> Result<String> {
        let (kind, argument) = decision.parts()?;
        let entry = Entry {
            task: Some(id.as_str().into()),
            ..Entry::decided(self.clock.now(), OPERATOR, kind, &argument)
        };
        let event = match decision {
            OperatorCommand::Cancel => Event::Cancel {
                id: id.clone(),
                why: "the operator called it off".to_owned(),
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
            Event::Cancel { .. } => format!("task {id} is called off, with all below it"),
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
                    "task {id} is not retried: task {holder}, which has not ended, has its unique key"
                )));
            }
        }
        Ok(done)
    }
}

/// Carries a decision out where no process serves.
pub(crate) async fn alone(
    store: &Arc<Store>,
    config: &Config,
    catalog: &Catalog,
    id: &TaskId,
    decision: OperatorCommand,
) -> Result<String> {
    let clock = Clock::default();
    let trust = Arc::new(Trust::load(config)?);
    // Nobody listens: whoever serves next looks at everything.
    let signals = Arc::new(Notifier::new().0);
    let registry = PeerRegistry::new(store, trust, config.root_url()?, signals).await?;
    let commits = without_slots(store, config, &registry, &clock).await?;
    let desk = Executor {
        store,
        commits: &commits,
        catalog,
        clock: &clock,
        config,
        registry: &registry,
    };
    let done = desk.carry_out(id, decision).await;
    commits.close().await;
    done
}

/// A committer that claims nothing, and that nobody listens to.
pub(crate) async fn without_slots(
    store: &Arc<Store>,
    config: &Config,
    registry: &PeerRegistry,
    clock: &Clock,
) -> Result<CommitQueue> {
    let committer = Committer {
        store: store.clone(),
        writer: store.writer().await?,
        // Of no node, since it owns nothing.
        node: NodeId(0),
        url: config.root_url()?,
        clock: clock.clone(),
        peers: registry.peers.clone(),
        signals: Arc::new(Notifier::new().0),
        admission: Arc::new(Admission::new(config.limits.clone())),
        // Without slots nothing is claimed.
        slots: Slots::new(std::iter::empty()),
        claimed: mpsc::unbounded_channel().0,
        reservation_timeout: config.reservation_timeout,
        transaction_timeout: config.transaction_timeout,
        undone: Default::default(),
        give_up_after: config.delivery.give_up_after,
        log_payloads: config.log_payloads,
        doubt: UncertainCommit::default(),
        aside: None,
        audit: config.audits().then(|| AuditChain::new(config.node_name())),
        look_at_held: false,
        recent: TaskCache::new(false),
    };
    Ok(committer.start())
}

/// Carries out what the command line asks of the serving process, for as long as it serves.
pub(crate) async fn answer(services: &Arc<Services>) {
    let mut ticks = tokio::time::interval(PAUSE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut away = false;
    loop {
        ticks.tick().await;
        match answer_all(services).await {
            Ok(()) => away = false,
            Err(error) => {
                // Once is enough: the heartbeat says it too.
                if !away {
                    tracing::warn!(error = %error.with_causes(), "requests of the command line can't be read; trying again");
                }
                away = true;
            }
        }
    }
}

async fn answer_all(services: &Arc<Services>) -> Result<()> {
    while let Some(request) = services.store.take_request().await? {
        if request.kind == "prune" {
            // It may take long, and others wait for their answers.
            let services = services.clone();
            tokio::spawn(async move {
                if let Err(error) = answer_one(&services, request).await {
                    tracing::warn!(error = %error.with_causes(), "the command line can't be told what was pruned");
                }
            });
            continue;
        }
        answer_one(services, request).await?;
    }
    Ok(())
}

async fn answer_one(services: &Services, request: Request) -> Result<()> {
    let Request {
        seq,
        kind,
        task,
        argument,
    } = request;
    let desk = Executor::of(services);
    let answer = match OperatorCommand::of_parts(&kind, argument) {
        Ok(decision) => desk.carry_out(&task, decision).await,
        Err(error) => Err(error),
    };
    match &answer {
        Ok(done) => tracing::info!("by the command line: {done}"),
        Err(error) => {
            tracing::info!(task = %task, error = %error.with_causes(), "the command line asked in vain")
        }
    }
    desk.store.answer_request(seq, &answer).await
}
