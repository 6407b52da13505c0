//! `--cancel`, `--finish`, `--deny`, `--retry`, `--prune`, `--add-peer` and `--remove-peer`: the
//! operator's commands.
//!
//! The serving process carries them out; if there is none, this process does.

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

/// How long to wait for an answer: longer than the lease of a process that died.
const PATIENCE: Duration = Duration::from_secs(45);
/// The prefix of a file with certificates of authorities.
const BUNDLE: &str = "ca:";
/// How often to look for the answer.
const PAUSE: Duration = Duration::from_millis(50);
/// How often to check whether a process is still serving.
const CHECK_SERVING: Duration = Duration::from_secs(1);

/// The command that the flags ask for, with the beginning of the task's id or the name of the
/// peer, if it is about one. An invalid argument is an error of usage.
pub(super) fn requested(flags: &Flags) -> Result<Option<(Option<&str>, OperatorCommand)>, Stop> {
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
            usage_error(format!(
                "the output is not JSON: {why}; a string needs its own quotes: '\"approved\"'"
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

/// A fingerprint as it is, or the content of the certificate's file.
fn certificate_of(argument: &str) -> Result<String, Error> {
    match Fingerprint::read(argument) {
        Some(_) => Ok(argument.to_owned()),
        None => text_of(argument),
    }
}

fn text_of(file: &str) -> Result<String, Error> {
    std::fs::read_to_string(file).map_err(|source| Error::Io {
        what: format!("can't read the certificate {file}"),
        source,
    })
}

/// Checks an id that comes with another argument, which the flag's own parser does not check.
fn checked(id: &str) -> Result<&str, Stop> {
    flags::id(id).map_err(usage_error)?;
    Ok(id.trim())
}

fn usage_error(why: String) -> Stop {
    Stop::Usage(Box::new(Error::Invalid(why)))
}

/// Has the command carried out, and writes one line that says what was done.
pub(super) async fn run(
    config: &Config,
    catalog: &Catalog,
    id: Option<&str>,
    command: OperatorCommand,
    out: &mut dyn Write,
) -> Result<(), Stop> {
    let mut store = Store::open(&config.database(), OpenMode::Look).await?;
    let named = match id {
        Some(name) if !command.is_about_a_task() => Ok(TaskId::from(name)),
        id => named(&store, id).await,
    };
    let task = match named {
        Ok(task) => task,
        Err(error) => {
            store.close().await;
            return Err(error.into());
        }
    };
    let done = match request(&mut store, &task, &command).await {
        Ok(Outcome::Done(done)) => Ok(done),
        Ok(Outcome::NotServed { begun }) => {
            let store = Arc::new(store);
            let done = commands::run_offline(&store, config, catalog, &task, command).await;
            store.close().await;
            return match done {
                Err(Error::Invalid(why)) if begun => Err(Error::Invalid(format!(
                    "{why}; the serving process may have carried out this command before it ended"
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

/// The id of the task that the command is about, or an empty one.
async fn named(store: &Store, id: Option<&str>) -> Result<TaskId> {
    match id {
        Some(id) => Ok(find::task(store, id).await?.unless_pruned()?.id),
        None => Ok(TaskId::from("")),
    }
}

/// The outcome of a request to the serving process.
enum Outcome {
    /// The process has done this.
    Done(String),
    /// No process is serving, or none any longer.
    NotServed {
        /// Whether the process that served had taken the request.
        begun: bool,
    },
}

/// Requests the command from the serving process, and waits for the answer.
async fn request(store: &mut Store, task: &TaskId, command: &OperatorCommand) -> Result<Outcome> {
    if store.is_alone().await? {
        return Ok(Outcome::NotServed { begun: false });
    }
    let (kind, argument) = command.parts()?;
    let request = store.ask(kind, task, &argument).await?;
    let deadline = Instant::now() + PATIENCE;
    let mut next_check = Instant::now() + CHECK_SERVING;
    loop {
        if let Some(answer) = answered(store, request).await? {
            return answer.map(Outcome::Done);
        }
        if Instant::now() >= next_check {
            next_check += CHECK_SERVING;
            if store.is_alone().await? {
                // It may have answered just before it ended. If it only took the request, the
                // command either has taken effect, and is rejected now, or has not.
                if let Some(answer) = answered(store, request).await? {
                    return answer.map(Outcome::Done);
                }
                let begun = !store.withdraw_request(request).await?;
                store.forget_request(request).await?;
                return Ok(Outcome::NotServed { begun });
            }
        }
        // Pruning takes as long as it needs.
        let is_pruning = matches!(command, OperatorCommand::Prune(_))
            && store.request_stage(request).await? == Stage::Taken;
        if Instant::now() >= deadline && !is_pruning {
            let withdrawn = store.withdraw_request(request).await?;
            return Err(Error::Invalid(match withdrawn {
                true => format!(
                    "the serving process has not answered within {} seconds, and nothing was done; \
                     it may be another version, or unable to use the database",
                    PATIENCE.as_secs()
                ),
                false => format!(
                    "the serving process took the request and has not answered within \
                     {} seconds; check the result with {}",
                    PATIENCE.as_secs(),
                    match command.is_about_a_task() {
                        true => format!("--show-task {task}"),
                        false => "--peers".to_owned(),
                    }
                ),
            }));
        }
        sleep(PAUSE).await;
    }
}

/// The answer, if it is stored.
async fn answered(store: &Store, request: i64) -> Result<Option<Result<String>>> {
    let answer = match store.request_stage(request).await? {
        Stage::Pending | Stage::Taken => return Ok(None),
        Stage::Done(said) => Ok(said),
        Stage::Refused(why) => Err(Error::Invalid(why)),
    };
    store.forget_request(request).await?;
    Ok(Some(answer))
}
