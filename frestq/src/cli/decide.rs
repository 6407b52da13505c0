//! `--cancel`, `--finish`, `--deny`, `--retry`, `--prune`, `--add-peer` and `--remove-peer`: what a person
//! decides.
//!
//! The process that serves carries it out, and without one we do.

use std::{io::Write, sync::Arc, time::Duration};

use serde_json::value::RawValue;
use tokio::time::{Instant, sleep};

use super::{
    find,
    flags::{self, Flags},
    output,
    stop::Stop,
};
use crate::{
    api::peers::Peer,
    config::Config,
    model::{
        Fingerprint, TaskId,
        catalog::Catalog,
        error::{Error, Result},
    },
    operator::commands::{self, OperatorCommand},
    store::{OpenMode, Stage, Store},
};

/// How long an answer is waited for: longer than the lease of a process that died.
const PATIENCE: Duration = Duration::from_secs(45);
/// What the file of certificates of authorities is told by, in the place of a certificate.
const BUNDLE: &str = "ca:";
/// How often we look for the answer.
const PAUSE: Duration = Duration::from_millis(50);
/// How often we look whether the one we asked is still there.
const STILL_THERE: Duration = Duration::from_secs(1);

/// What the flags ask for, of the task that begins with this id or of the peer of this name, if it is about
/// one. A wrong argument is a matter of usage.
pub(super) fn wanted(flags: &Flags) -> Result<Option<(Option<&str>, OperatorCommand)>, Stop> {
    if let Some(age) = flags.prune {
        return Ok(Some((None, OperatorCommand::Prune(age))));
    }
    if let Some(id) = &flags.cancel {
        return Ok(Some((Some(id), OperatorCommand::Cancel)));
    }
    if let Some(id) = &flags.retry {
        return Ok(Some((Some(id), OperatorCommand::Retry(TaskId::generate()))));
    }
    if let [id, json] = &flags.finish[..] {
        let output = RawValue::from_string(json.clone()).map_err(|why| {
            wrong(format!(
                "the output is not JSON: {why}; a text needs quotes of its own: '\"approved\"'"
            ))
        })?;
        return Ok(Some((Some(checked(id)?), OperatorCommand::Finish(output))));
    }
    if let [id, reason] = &flags.deny[..] {
        return Ok(Some((
            Some(checked(id)?),
            OperatorCommand::Deny(reason.clone()),
        )));
    }
    if let Some(name) = &flags.remove_peer {
        return Ok(Some((Some(name), OperatorCommand::RemovePeer)));
    }
    if let [name, url, certificate, allow @ ..] = &flags.add_peer[..] {
        let mut peer = Peer::new(name, url);
        for certificate in certificate.split(',') {
            peer = match certificate.strip_prefix(BUNDLE) {
                Some(bundle) => peer.ca(text_of(bundle)?),
                None => peer.certificate(certificate_of(certificate)?),
            };
        }
        let peer = allow.iter().fold(peer, Peer::allow);
        let peer = match flags.private {
            true => peer.private(),
            false => peer,
        };
        let row = peer.check().map_err(|why| Stop::Usage(Box::new(why)))?;
        return Ok(Some((Some(name), OperatorCommand::AddPeer(Box::new(row)))));
    }
    Ok(None)
}

/// A fingerprint as it is, or the text of the file that has the certificate.
fn certificate_of(argument: &str) -> Result<String, Error> {
    match Fingerprint::read(argument) {
        Some(_) => Ok(argument.to_owned()),
        None => text_of(argument),
    }
}

fn text_of(file: &str) -> Result<String, Error> {
    std::fs::read_to_string(file).map_err(|source| Error::Io {
        what: format!("certificate {file}"),
        source,
    })
}

/// The id beside an argument, which the flag's own check does not reach.
fn checked(id: &str) -> Result<&str, Stop> {
    flags::id(id).map_err(wrong)?;
    Ok(id.trim())
}

fn wrong(why: String) -> Stop {
    Stop::Usage(Box::new(Error::Invalid(why)))
}

/// Has the decision carried out, and says in one line what was done.
pub(super) async fn run(
    config: &Config,
    catalog: &Catalog,
    id: Option<&str>,
    decision: OperatorCommand,
    out: &mut dyn Write,
) -> Result<(), Stop> {
    let mut store = Store::open(&config.database(), OpenMode::Look).await?;
    let named = match id {
        Some(name) if !decision.is_about_a_task() => Ok(TaskId::from(name)),
        id => named(&store, id).await,
    };
    let task = match named {
        Ok(task) => task,
        Err(error) => {
            store.close().await;
            return Err(error.into());
        }
    };
    let done = match decide(&mut store, &task, &decision).await {
        Ok(Outcome::Carried(done)) => Ok(done),
        Ok(Outcome::UpToUs { begun }) => {
            let store = Arc::new(store);
            let done = commands::run_offline(&store, config, catalog, &task, decision).await;
            store.close().await;
            return match done {
                Err(Error::Invalid(why)) if begun => Err(Error::Invalid(format!(
                    "{why}; that may be this very decision, which the process that served began with before it ended"
                ))
                .into()),
                done => output::line(out, &output::one_line(&done?)),
            };
        }
        Err(error) => Err(error),
    };
    store.close().await;
    output::line(out, &output::one_line(&done?))
}

/// The task that the decision is about, if it is about one.
async fn named(store: &Store, id: Option<&str>) -> Result<TaskId> {
    match id {
        Some(id) => Ok(find::task(store, id).await?.unless_pruned()?.id),
        None => Ok(TaskId::from("")),
    }
}

/// What came of asking.
enum Outcome {
    /// This was done.
    Carried(String),
    /// Nobody serves, or not any more.
    UpToUs {
        /// Whoever served had taken the request.
        begun: bool,
    },
}

/// Asks whoever serves.
async fn decide(store: &mut Store, task: &TaskId, decision: &OperatorCommand) -> Result<Outcome> {
    if store.is_alone().await? {
        return Ok(Outcome::UpToUs { begun: false });
    }
    let (kind, argument) = decision.parts()?;
    let request = store.ask(kind, task, &argument).await?;
    let until = Instant::now() + PATIENCE;
    let mut look_again = Instant::now() + STILL_THERE;
    loop {
        if let Some(answer) = answered(store, request).await? {
            return answer.map(Outcome::Carried);
        }
        if Instant::now() >= look_again {
            look_again += STILL_THERE;
            if store.is_alone().await? {
                // It may have answered with its last breath. If it only took the request, what it
                // was about either has happened, and is refused now, or has not.
                if let Some(answer) = answered(store, request).await? {
                    return answer.map(Outcome::Carried);
                }
                let begun = !store.withdraw_request(request).await?;
                store.forget_request(request).await?;
                return Ok(Outcome::UpToUs { begun });
            }
        }
        // What there is to prune takes as long as it takes.
        let works = matches!(decision, OperatorCommand::Prune(_))
            && store.request_stage(request).await? == Stage::Taken;
        if Instant::now() >= until && !works {
            let nothing = store.withdraw_request(request).await?;
            return Err(Error::Invalid(match nothing {
                true => format!(
                    "the process that serves this peer gave no answer within {} seconds; nothing has happened. Is it of this version, and its database in order?",
                    PATIENCE.as_secs()
                ),
                false => format!(
                    "the process that serves this peer took the request and gave no answer within {} seconds; look with {} what came of it",
                    PATIENCE.as_secs(),
                    match decision.is_about_a_task() {
                        true => format!("--show-task {task}"),
                        false => "--peers".to_owned(),
                    }
                ),
            }));
        }
        sleep(PAUSE).await;
    }
}

/// The answer, if it is there.
async fn answered(store: &Store, request: i64) -> Result<Option<Result<String>>> {
    let answer = match store.request_stage(request).await? {
        Stage::Pending | Stage::Taken => return Ok(None),
        Stage::Done(said) => Ok(said),
        Stage::Refused(why) => Err(Error::Invalid(why)),
    };
    store.forget_request(request).await?;
    Ok(Some(answer))
}
