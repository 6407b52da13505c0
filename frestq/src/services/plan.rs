//! From trees as values to rows: every draft is checked, given an id and its place.

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

/// The rows of a tree, each before its children, each family in its order. None of them expires later
/// than what it is a part of: another peer hears of that in no other way if it is an original one.
///
/// # Errors
///
/// Of the first draft that can't be sent; nothing is stored then.
pub(crate) async fn plan(
    services: &Services,
    roots: Vec<Draft>,
    parent: Option<Parent<'_>>,
) -> Result<Vec<NewTask>> {
    let now = services.clock.now();
    let mut open: VecDeque<Open> = VecDeque::new();
    let mut rows = Vec::with_capacity(roots.len());
    queue(&mut open, roots, parent);
    while let Some(next) = open.pop_front() {
        let Open {
            mut draft,
            parent,
            order,
            expires_at,
            trace,
        } = next;
        let children = std::mem::take(&mut draft.children);
        if parent.is_some() && draft.unique.is_some() {
            return Err(Error::Invalid(
                "a unique key is for a task that is sent, not for a subtask".into(),
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
        queue(&mut open, children, Some(parent));
        rows.push(row);
    }
    Ok(rows)
}

/// What a tree is to be a part of.
#[derive(Clone, Copy)]
pub(crate) struct Parent<'a> {
    pub(crate) id: &'a TaskId,
    pub(crate) expires_at: Option<Timestamp>,
    /// What its subtasks have that say nothing else.
    pub(crate) trace: Option<&'a Arc<str>>,
}

/// A draft that waits for its row.
struct Open {
    draft: Draft,
    parent: Option<TaskId>,
    order: i64,
    /// When what it is a part of expires.
    expires_at: Option<Timestamp>,
    /// The trace of what it is a part of.
    trace: Option<Arc<str>>,
}

fn queue(open: &mut VecDeque<Open>, family: Vec<Draft>, parent: Option<Parent<'_>>) {
    for (order, draft) in (0..).zip(family) {
        open.push_back(Open {
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

/// Who runs a task, and as what.
struct Place {
    kind: TaskKind,
    role: Role,
    peer: PeerId,
    queue: String,
    action: String,
    on_failure: OnFailure,
    at_most_once: bool,
}

async fn row(services: &Services, draft: Draft, now: Timestamp) -> Result<NewTask> {
    let input: Json = draft.data?;
    if let Some(info) = &draft.info {
        check_length("an info", info, 0)?;
    }
    if let Some(trace) = &draft.trace {
        check_trace(trace).map_err(Error::Invalid)?;
    }
    let group = |kind, on_failure| Place {
        kind,
        role: Role::Local,
        peer: PeerId::SELF,
        queue: String::new(),
        action: String::new(),
        on_failure,
        at_most_once: false,
    };
    let place = match draft.target {
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
                    "this peer has no director {director:?}; a crate of directors that nothing names is not linked in"
                )));
            }
            Place {
                queue: DIRECTORS.to_owned(),
                action: director.to_owned(),
                ..group(TaskKind::Synchronized, OnFailure::End)
            }
        }
    };
    let certificate = match &draft.pin {
        Some(pin) => Some(pinned(services, &place, pin)?),
        None => None,
    };
    let at = |when: Option<When>| when.map(|when| when.resolve(now)).transpose();
    Ok(NewTask {
        state: TaskState {
            kind: place.kind,
            role: place.role,
            peer: place.peer,
            certificate,
            queue: place.queue.into(),
            action: place.action.into(),
            on_failure: place.on_failure,
            at_most_once: place.at_most_once,
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

async fn action_of(
    services: &Services,
    url: PeerUrl,
    queue: String,
    action: String,
) -> Result<Place> {
    check_length("a queue", &queue, 1)?;
    check_length("an action", &action, 0)?;
    let on_failure = OnFailure::End;
    if url != services.url {
        return Ok(Place {
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
    Ok(Place {
        kind: TaskKind::Sequential,
        role: Role::Local,
        peer: PeerId::SELF,
        queue,
        action,
        on_failure,
        at_most_once: handler.options.at_most_once,
    })
}

/// The certificate that the receiver of a task must show.
fn pinned(services: &Services, place: &Place, pin: &str) -> Result<Fingerprint> {
    let refuse = |why: &str| Err(Error::Invalid(format!("a pin: {why}")));
    let pin = read_fingerprint(pin).map_err(|why| Error::Invalid(format!("a pin: {why}")))?;
    let Some(snapshot) = services.trust.snapshot() else {
        return refuse(
            "without [tls] no server shows a certificate; add [tls] and [peers], or leave the pin out",
        );
    };
    let row = services.peers.by_id(place.peer);
    let member = row.and_then(|row| snapshot.members.by_url(&row.url).cloned());
    match member.filter(|_| place.role == Role::Sent) {
        None => refuse("the task is for this peer itself"),
        Some(member) if member.authority.is_none() && !member.pins.contains(&pin) => {
            Err(Error::Invalid(format!(
                "a pin: {pin} is none of the certificates of peer {}",
                member.name
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
        "{what} of {length} characters; {least} to 1024 are allowed"
    )))
}
