//! The planning of trees: turns drafts into rows, each validated, with an id and its position.

use std::{collections::VecDeque, sync::Arc};

use jiff::Timestamp;

use crate::{
    model::{
        Fingerprint, Json, NewTask, OnFailure, PeerId, PeerUrl, Role, TaskId, TaskKind, TaskState,
        catalog::DIRECTORS,
        check_trace,
        draft::{Draft, Target, When},
        error::{Error, Result},
    },
    security::certificate::read_fingerprint,
    services::Services,
};

/// Plans the rows of a tree, each before its children, and siblings in their order. No task
/// expires later than its parent: only by its own expiration date does an original peer learn of
/// it.
///
/// # Errors
///
/// The error of the first invalid draft. Nothing is stored then.
pub(crate) async fn plan(
    services: &Services,
    roots: Vec<Draft>,
    parent: Option<Parent<'_>>,
) -> Result<Vec<NewTask>> {
    let now = services.clock.now();
    let mut pending: VecDeque<Pending> = VecDeque::new();
    let mut rows = Vec::with_capacity(roots.len());
    enqueue(&mut pending, roots, parent);
    while let Some(next) = pending.pop_front() {
        let Pending {
            mut draft,
            parent,
            order,
            expires_at,
            trace,
        } = next;
        let children = std::mem::take(&mut draft.children);
        if parent.is_some() && draft.unique.is_some() {
            return Err(Error::Invalid(
                "only a task that is sent on its own can have a unique key, not a subtask".into(),
            ));
        }
        let mut row = row(services, draft, now).await?;
        row.state.parent = parent;
        row.state.order = order;
        row.state.open_children = i64::try_from(children.len()).unwrap_or(i64::MAX);
        row.state.expires_at = earlier(row.state.expires_at, expires_at);
        row.state.trace = row.state.trace.or(trace);
        let parent = Parent {
            id: &row.state.id,
            expires_at: row.state.expires_at,
            trace: row.state.trace.as_ref(),
        };
        enqueue(&mut pending, children, Some(parent));
        rows.push(row);
    }
    Ok(rows)
}

/// The parent of a tree's roots.
#[derive(Clone, Copy)]
pub(crate) struct Parent<'a> {
    pub(crate) id: &'a TaskId,
    pub(crate) expires_at: Option<Timestamp>,
    /// What its subtasks have that say nothing else.
    pub(crate) trace: Option<&'a Arc<str>>,
}

/// A draft that is not planned yet.
struct Pending {
    draft: Draft,
    parent: Option<TaskId>,
    order: i64,
    /// When the parent expires.
    expires_at: Option<Timestamp>,
    /// The trace of what it is a part of.
    trace: Option<Arc<str>>,
}

fn enqueue(pending: &mut VecDeque<Pending>, siblings: Vec<Draft>, parent: Option<Parent<'_>>) {
    for (order, draft) in (0..).zip(siblings) {
        pending.push_back(Pending {
            draft,
            parent: parent.map(|parent| parent.id.clone()),
            order,
            expires_at: parent.and_then(|parent| parent.expires_at),
            trace: parent.and_then(|parent| parent.trace.cloned()),
        });
    }
}

fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    one.into_iter().chain(other).min()
}

/// The peer that runs a task, the action, and its options.
struct Assignment {
    kind: TaskKind,
    role: Role,
    peer: PeerId,
    queue: String,
    action: String,
    on_failure: OnFailure,
    at_most_once: bool,
}

/// Plans the row of one draft.
async fn row(services: &Services, draft: Draft, now: Timestamp) -> Result<NewTask> {
    let input: Json = draft.data?;
    if let Some(info) = &draft.info {
        check_length("info", info, 0)?;
    }
    if let Some(trace) = &draft.trace {
        check_trace(trace).map_err(Error::Invalid)?;
    }
    let group = |kind, on_failure| Assignment {
        kind,
        role: Role::Local,
        peer: PeerId::SELF,
        queue: String::new(),
        action: String::new(),
        on_failure,
        at_most_once: false,
    };
    let assignment = match draft.target {
        Target::Action {
            peer: url,
            queue,
            action,
        } => action_of(services, url?, queue, action).await?,
        Target::Sequential => group(TaskKind::Sequential, OnFailure::End),
        Target::Parallel { waits_for_all } if waits_for_all => {
            group(TaskKind::Parallel, OnFailure::WaitForAll)
        }
        Target::Parallel { .. } => group(TaskKind::Parallel, OnFailure::End),
        Target::External => group(TaskKind::External, OnFailure::End),
        Target::Synchronized { director: "" } => group(TaskKind::Synchronized, OnFailure::End),
        Target::Synchronized { director } => {
            if services.catalog.get(DIRECTORS, director).is_none() {
                return Err(Error::Invalid(format!(
                    "this peer has no director {director:?}; a crate of directors is only linked if the program refers to it"
                )));
            }
            Assignment {
                queue: DIRECTORS.to_owned(),
                action: director.to_owned(),
                ..group(TaskKind::Synchronized, OnFailure::End)
            }
        }
    };
    let certificate = match &draft.pin {
        Some(pin) => Some(pinned(services, &assignment, pin)?),
        None => None,
    };
    let at = |when: Option<When>| when.map(|when| when.resolve(now)).transpose();
    Ok(NewTask {
        state: TaskState {
            kind: assignment.kind,
            role: assignment.role,
            peer: assignment.peer,
            certificate,
            queue: assignment.queue.into(),
            action: assignment.action.into(),
            on_failure: assignment.on_failure,
            at_most_once: assignment.at_most_once,
            trace: draft.trace.map(Into::into),
            run_at: at(draft.delay.map(When::In))?,
            expires_at: at(draft.expires)?,
            ..TaskState::new(now)
        },
        input,
        label: draft.label.map(Into::into),
        info: draft.info.map(Into::into),
        pingback_at: at(draft.pingback)?,
        priority: draft.priority.into(),
        unique_key: draft.unique.map(Into::into),
        created_at: now,
    })
}

/// The assignment of an action, on this peer or another one.
async fn action_of(
    services: &Services,
    url: PeerUrl,
    queue: String,
    action: String,
) -> Result<Assignment> {
    check_length("queue", &queue, 1)?;
    check_length("action", &action, 0)?;
    let on_failure = OnFailure::End;
    if url != services.url {
        return Ok(Assignment {
            kind: TaskKind::Simple,
            role: Role::Sent,
            peer: services.peers.find_or_add(&services.store, &url).await?,
            queue,
            action,
            on_failure,
            at_most_once: false,
        });
    }
    let Some(handler) = services.catalog.get(&queue, &action) else {
        let known = services.catalog.describe();
        return Err(Error::Invalid(format!(
            "this peer has no action {queue}/{action}; {known}"
        )));
    };
    Ok(Assignment {
        kind: TaskKind::Sequential,
        role: Role::Local,
        peer: PeerId::SELF,
        queue,
        action,
        on_failure,
        at_most_once: handler.options.at_most_once,
    })
}

/// Validates the pin of a task: the certificate that the receiving peer must show.
fn pinned(services: &Services, assignment: &Assignment, pin: &str) -> Result<Fingerprint> {
    let invalid = |why: &str| Err(Error::Invalid(format!("pin: {why}")));
    let pin = read_fingerprint(pin).map_err(|why| Error::Invalid(format!("pin: {why}")))?;
    let Some(snapshot) = services.trust.snapshot() else {
        return invalid(
            "without [tls] no server shows a certificate; add [tls] and [peers], or remove the pin",
        );
    };
    let row = services.peers.by_id(assignment.peer);
    let peer = row.and_then(|row| snapshot.peers.by_url(&row.url).cloned());
    match peer.filter(|_| assignment.role == Role::Sent) {
        None => invalid("the task is for this peer itself"),
        Some(peer) if peer.authority.is_none() && !peer.pins.contains(&pin) => {
            Err(Error::Invalid(format!(
                "pin: {pin} is none of the certificates of peer {}",
                peer.name
            )))
        }
        Some(_) => Ok(pin),
    }
}

fn check_length(what: &str, text: &str, least: usize) -> Result<()> {
    let length = text.chars().count();
    if (least..=1024).contains(&length) {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "the {what} has {length} characters; {least} to 1024 are allowed"
    )))
}
