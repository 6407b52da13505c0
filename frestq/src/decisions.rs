//! What a person decides from the command line: call off, end, deny, retry a task, register a peer or
//! take it out.
//!
//! Only the serving process changes tasks, so the command line leaves a request in the database, which
//! that process takes up ([`answer`]). Where none serves, [`alone`] has a committer without
//! slots: it decides and writes, and neither runs nor delivers anything.

use std::{borrow::Cow, sync::Arc, time::Duration};

use tokio::{sync::mpsc, time::MissedTickBehavior};

use crate::{
    admission::Admission,
    clock::Clock,
    commit::{Commits, Committer, Doubt, Slots},
    config::Config,
    engine::Event,
    error::{Error, Result, TaskError},
    membership::Membership,
    model::{Json, NodeId, Registration, TaskId},
    peer::Frestq,
    registry::Registry,
    retrying,
    signals::Signals,
    store::{Request, Store},
    trust::Trust,
};

/// How often the serving process looks for requests.
const PAUSE: Duration = Duration::from_millis(200);

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
    pub(crate) membership: &'a Membership,
}

impl Desk<'_> {
    /// Carries out a decision about the task of this id, or the peer of this name; gives what was done in
    /// one line.
    pub(crate) async fn carry_out(&self, id: &TaskId, decision: Decision) -> Result<String> {
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
            Decision::Retry(fresh) => return self.retry(id, &fresh).await,
            Decision::AddPeer(row) => return self.membership.add(*row).await,
            Decision::RemovePeer => return self.membership.remove(id.as_str()).await,
        };
        let done = match &event {
            Event::CallOff { .. } => format!("task {id} is called off, with all below it"),
            Event::EndExternal { outcome: Ok(_), .. } => format!("task {id} is finished"),
            _ => format!("task {id} is denied"),
        };
        self.commits.decide(id, event).await?;
        Ok(done)
    }

    async fn retry(&self, id: &TaskId, fresh: &TaskId) -> Result<String> {
        if self.store.task(fresh).await?.is_none() {
            let now = self.clock.now();
            let tree = retrying::copy(self.store, self.registry, id, fresh, now).await?;
            self.commits.submit(vec![Event::Send(tree)]).await?;
        }
        Ok(format!("task {id} is retried as {fresh}"))
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
    let membership = Membership::new(store, trust, config.root_url()?, signals.clone()).await?;
    let commits = Committer {
        store: store.clone(),
        writer: store.writer().await?,
        // Of no node, since it owns nothing.
        node: NodeId(0),
        url: config.root_url()?,
        clock: clock.clone(),
        peers: membership.peers.clone(),
        signals,
        admission: Arc::new(Admission::new(config.limits.clone())),
        // Without slots nothing is claimed.
        slots: Slots::new(std::iter::empty()),
        claimed: mpsc::unbounded_channel().0,
        reservation_timeout: config.reservation_timeout,
        give_up_after: config.delivery.give_up_after,
        log_payloads: config.log_payloads,
        doubt: Doubt::default(),
        look_at_held: false,
    }
    .start();
    let registry = Registry::collect();
    let desk = Desk {
        store,
        commits: &commits,
        registry: &registry,
        clock: &clock,
        membership: &membership,
    };
    let done = desk.carry_out(id, decision).await;
    commits.close().await;
    done
}

/// Carries out what the command line asks of the serving process, for as long as it serves.
pub(crate) async fn answer(peer: &Frestq) {
    let desk = Desk {
        store: &peer.0.store,
        commits: &peer.0.commits,
        registry: &peer.0.registry,
        clock: &peer.0.clock,
        membership: &peer.0.membership,
    };
    let mut ticks = tokio::time::interval(PAUSE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut away = false;
    loop {
        ticks.tick().await;
        match answer_all(&desk).await {
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

async fn answer_all(desk: &Desk<'_>) -> Result<()> {
    while let Some(request) = desk.store.take_request().await? {
        let Request {
            seq,
            kind,
            task,
            argument,
        } = request;
        let answer = match Decision::of_parts(&kind, argument) {
            Ok(decision) => desk.carry_out(&task, decision).await,
            Err(error) => Err(error),
        };
        match &answer {
            Ok(done) => tracing::info!("by the command line: {done}"),
            Err(error) => tracing::info!("by the command line, in vain: {kind} {task}: {error}"),
        }
        desk.store.answer_request(seq, &answer).await?;
    }
    Ok(())
}
