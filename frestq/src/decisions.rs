//! What a person decides from the command line: call off, end, deny, retry, prune tasks, register a peer
//! or take it out.
//!
//! Only the serving process changes tasks, so the command line leaves a request in the database, which
//! that process takes up ([`answer`]). Where none serves, [`alone`] has a committer without
//! slots: it decides and writes, and neither runs nor delivers anything.

use std::{borrow::Cow, sync::Arc, time::Duration};

use humantime_serde::re::humantime::{format_duration, parse_duration};
use tokio::{sync::mpsc, time::MissedTickBehavior};

use crate::{
    admission::Admission,
    audit::Entry,
    clock::Clock,
    commit::{Chain, Commits, Committer, Doubt, Recent, Slots},
    config::Config,
    engine::{Answer, Event},
    error::{Error, Result, TaskError},
    membership::Membership,
    model::{Json, NodeId, Registration, TaskId},
    peer::Frestq,
    pruning::Pruning,
    registry::Registry,
    retrying,
    signals::Signals,
    store::{Request, Store},
    trust::Trust,
};

/// How often the serving process looks for requests.
const PAUSE: Duration = Duration::from_millis(200);

/// Who decides, as the audit has it.
pub(crate) const OPERATOR: &str = "operator";

/// What a person wants of a task, or of a peer.
#[derive(Clone, Debug)]
pub(crate) enum Decision {
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
    AddPeer(Box<Registration>),
    /// Take a peer out.
    RemovePeer,
}

impl Decision {
    /// As a request has it: its kind and its argument.
    pub(crate) fn parts(&self) -> Result<(&'static str, Cow<'_, str>)> {
        Ok(match self {
            Decision::Cancel => ("cancel", "".into()),
            Decision::Finish(output) => ("finish", output.get().into()),
            Decision::Deny(reason) => ("deny", reason.into()),
            Decision::Retry(fresh) => ("retry", fresh.as_str().into()),
            Decision::Prune(age) => ("prune", format_duration(*age).to_string().into()),
            Decision::AddPeer(row) => ("add_peer", serde_json::to_string(row)?.into()),
            Decision::RemovePeer => ("remove_peer", "".into()),
        })
    }

    /// Whether it is about a task, and not about a peer.
    pub(crate) fn is_about_a_task(&self) -> bool {
        !matches!(self, Decision::AddPeer(_) | Decision::RemovePeer)
    }

    fn of_parts(kind: &str, argument: String) -> Result<Self> {
        Ok(match kind {
            "cancel" => Decision::Cancel,
            "finish" => Decision::Finish(serde_json::value::RawValue::from_string(argument)?),
            "deny" => Decision::Deny(argument),
            "retry" => Decision::Retry(argument.into()),
            "prune" => Decision::Prune(
                parse_duration(&argument)
                    .map_err(|why| Error::Invalid(format!("{argument:?}: {why}")))?,
            ),
            "add_peer" => Decision::AddPeer(serde_json::from_str(&argument)?),
            "remove_peer" => Decision::RemovePeer,
            kind => {
                return Err(Error::Invalid(format!(
                    "the serving process does not know what {kind:?} is; is it of an older version?"
                )));
            }
        })
    }
}

/// What it takes to carry out decisions.
pub(crate) struct Desk<'a> {
    pub(crate) store: &'a Store,
    pub(crate) commits: &'a Commits,
    pub(crate) registry: &'a Registry,
    pub(crate) clock: &'a Clock,
    pub(crate) config: &'a Config,
    pub(crate) membership: &'a Membership,
}

impl<'a> Desk<'a> {
    fn of(peer: &'a Frestq) -> Self {
        Self {
            store: &peer.0.store,
            commits: &peer.0.commits,
            registry: &peer.0.registry,
            clock: &peer.0.clock,
            config: peer.config(),
            membership: &peer.0.membership,
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
    pub(crate) async fn carry_out(&self, id: &TaskId, decision: Decision) -> Result<String> {
        let (kind, argument) = decision.parts()?;
        let entry = Entry {
            task: Some(id.as_str().into()),
            ..Entry::decided(self.clock.now(), OPERATOR, kind, &argument)
        };
        let event = match decision {
            Decision::Cancel => Event::CallOff {
                id: id.clone(),
                why: "the operator called it off".to_owned(),
            },
            Decision::Finish(output) => Event::EndExternal {
                id: id.clone(),
                outcome: Ok(output),
            },
            Decision::Deny(reason) => Event::EndExternal {
                id: id.clone(),
                outcome: Err(TaskError::new(TaskError::DENIED, reason)),
            },
            Decision::Retry(fresh) => return self.retry(id, &fresh, entry).await,
            Decision::Prune(age) => {
                let now = self.clock.now();
                let pruned = self.pruning().prune(age, now, OPERATOR).await?;
                return Ok(pruned.to_string());
            }
            Decision::AddPeer(row) => {
                let done = self.membership.add(*row).await?;
                return self.record(entry, done).await;
            }
            Decision::RemovePeer => {
                let done = self.membership.remove(id.as_str()).await?;
                return self.record(entry, done).await;
            }
        };
        let done = match &event {
            Event::CallOff { .. } => format!("task {id} is called off, with all below it"),
            Event::EndExternal { outcome: Ok(_), .. } => format!("task {id} is finished"),
            _ => format!("task {id} is denied"),
        };
        let entry = entry.answered(&done);
        self.commits.decide(id, event, entry).await?;
        Ok(done)
    }

    /// Records what was done already.
    async fn record(&self, entry: Entry, done: String) -> Result<String> {
        let entry = entry.answered(&done);
        self.commits.submit_recorded(Vec::new(), entry).await?;
        Ok(done)
    }

    async fn retry(&self, id: &TaskId, fresh: &TaskId, entry: Entry) -> Result<String> {
        let done = format!("task {id} is retried as {fresh}");
        if self.store.task(fresh).await?.is_none() {
            let now = self.clock.now();
            let tree = retrying::copy(self.store, self.registry, id, fresh, now).await?;
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
    id: &TaskId,
    decision: Decision,
) -> Result<String> {
    let clock = Clock::default();
    let trust = Arc::new(Trust::load(config)?);
    // Nobody listens: whoever serves next looks at everything.
    let signals = Arc::new(Signals::new().0);
    let membership = Membership::new(store, trust, config.root_url()?, signals).await?;
    let commits = without_slots(store, config, &membership, &clock).await?;
    let registry = Registry::collect();
    let desk = Desk {
        store,
        commits: &commits,
        registry: &registry,
        clock: &clock,
        config,
        membership: &membership,
    };
    let done = desk.carry_out(id, decision).await;
    commits.close().await;
    done
}

/// A committer that claims nothing, and that nobody listens to.
pub(crate) async fn without_slots(
    store: &Arc<Store>,
    config: &Config,
    membership: &Membership,
    clock: &Clock,
) -> Result<Commits> {
    let committer = Committer {
        store: store.clone(),
        writer: store.writer().await?,
        // Of no node, since it owns nothing.
        node: NodeId(0),
        url: config.root_url()?,
        clock: clock.clone(),
        peers: membership.peers.clone(),
        signals: Arc::new(Signals::new().0),
        admission: Arc::new(Admission::new(config.limits.clone())),
        // Without slots nothing is claimed.
        slots: Slots::new(std::iter::empty()),
        claimed: mpsc::unbounded_channel().0,
        reservation_timeout: config.reservation_timeout,
        give_up_after: config.delivery.give_up_after,
        log_payloads: config.log_payloads,
        doubt: Doubt::default(),
        pruning: None,
        audit: config.audits().then(|| Chain::new(config.node_name())),
        look_at_held: false,
        recent: Recent::new(false),
    };
    Ok(committer.start())
}

/// Carries out what the command line asks of the serving process, for as long as it serves.
pub(crate) async fn answer(peer: &Frestq) {
    let mut ticks = tokio::time::interval(PAUSE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut away = false;
    loop {
        ticks.tick().await;
        match answer_all(peer).await {
            Ok(()) => away = false,
            Err(error) => {
                // Once is enough: the heartbeat says it too.
                if !away {
                    tracing::warn!(%error, "requests of the command line can't be read; trying again");
                }
                away = true;
            }
        }
    }
}

async fn answer_all(peer: &Frestq) -> Result<()> {
    while let Some(request) = peer.0.store.take_request().await? {
        if request.kind == "prune" {
            // It may take long, and others wait for their answers.
            let peer = peer.clone();
            tokio::spawn(async move {
                if let Err(error) = answer_one(&peer, request).await {
                    tracing::warn!(%error, "the command line can't be told what was pruned");
                }
            });
            continue;
        }
        answer_one(peer, request).await?;
    }
    Ok(())
}

async fn answer_one(peer: &Frestq, request: Request) -> Result<()> {
    let Request {
        seq,
        kind,
        task,
        argument,
    } = request;
    let desk = Desk::of(peer);
    let answer = match Decision::of_parts(&kind, argument) {
        Ok(decision) => desk.carry_out(&task, decision).await,
        Err(error) => Err(error),
    };
    match &answer {
        Ok(done) => tracing::info!("by the command line: {done}"),
        Err(error) => tracing::info!(task = %task, %error, "the command line asked in vain"),
    }
    desk.store.answer_request(seq, &answer).await
}
