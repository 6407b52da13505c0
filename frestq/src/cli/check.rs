//! `--check`: validates everything that serving needs, without serving.

use std::io::Write;

use serde::Serialize;

use super::{
    output,
    stop::Stop,
    table::{Long, cut, render, whole},
};
use crate::{
    api::registry::{Registration, Registry},
    config::{
        load::{Entry, Loaded},
        secrets::masked_address,
    },
    model::{
        ActionOptions,
        catalog::HandlerKind,
        error::{Error, Result},
    },
    peers::registry,
    security::{registered::PeerSet, tls::Identity},
    server::App,
    store::{OpenMode, Store},
};

/// The result of the check.
#[derive(Debug, Serialize)]
struct Findings {
    configuration: Vec<Setting>,
    handlers: Vec<Handler>,
    database: Database,
    faults: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Setting {
    key: String,
    value: serde_json::Value,
    source: String,
}

#[derive(Debug, Serialize)]
struct Handler {
    queue: &'static str,
    action: &'static str,
    kind: &'static str,
    name: &'static str,
    options: Vec<String>,
    at: String,
}

#[derive(Debug, Serialize)]
struct Database {
    address: String,
    /// Whether its tables are of this version.
    ready: bool,
}

/// Writes the findings. Returns whether there is no fault.
pub(super) async fn run(
    app: &App,
    loaded: &Loaded,
    json: bool,
    width: Option<u16>,
    out: &mut dyn Write,
) -> Result<bool, Stop> {
    let findings = check(app, loaded, &app.registry()).await?;
    match json {
        true => output::pretty(out, &findings)?,
        false => write(&findings, width, out)?,
    }
    Ok(findings.faults.is_empty())
}

async fn check(app: &App, loaded: &Loaded, registry: &Registry) -> Result<Findings> {
    let config = &loaded.config;
    let mut faults = loaded.faults.clone();
    faults.extend(config.faults());
    let mut members = None;
    if config.faults().is_empty() {
        let own = Identity::load(&config.tls).err();
        faults.extend(own.into_iter().map(text_of));
        match PeerSet::load(&config.peers) {
            Ok(configured) => members = Some(configured),
            Err(fault) => faults.push(text_of(fault)),
        }
    }
    match registry.check(&app.states, config.queues.keys().map(String::as_str)) {
        Ok(()) => {}
        Err(Error::Handlers(found)) => {
            faults.extend(found.iter().map(|fault| fault.trim().to_owned()));
        }
        Err(other) => faults.push(other.with_causes().to_string()),
    }
    let address = config.database();
    let opened = Store::open(&address, OpenMode::Look).await;
    let ready = opened.is_ok();
    match opened {
        Ok(store) => {
            if let Some(members) = members {
                let rows = store.registrations().await?;
                let count = rows.len();
                let members = Some(members.with(rows)).filter(|_| !config.is_open());
                let registrations = registry::check(members.as_ref(), count);
                faults.extend(registrations.err().map(text_of));
            }
            store.close().await;
        }
        Err(error) => faults.push(error.with_causes().to_string()),
    }
    Ok(Findings {
        configuration: loaded.entries()?.into_iter().map(setting).collect(),
        handlers: registry.iter().map(handler).collect(),
        database: Database {
            address: masked_address(&address),
            ready,
        },
        faults,
    })
}

fn text_of(fault: Error) -> String {
    match fault {
        Error::Config(why) => why,
        other => other.with_causes().to_string(),
    }
}

fn setting(entry: Entry) -> Setting {
    Setting {
        key: entry.key,
        value: entry.value,
        source: entry.source.to_string(),
    }
}

fn handler(registration: &'static Registration) -> Handler {
    Handler {
        queue: registration.info.queue,
        action: registration.info.action,
        kind: match registration.info.kind {
            HandlerKind::Task => "task",
            HandlerKind::Message => "message",
            HandlerKind::Director => "director",
        },
        name: registration.name,
        options: options(&registration.info.options),
        at: format!("{}:{}", registration.file, registration.line),
    }
}

/// The options that differ from the defaults.
fn options(options: &ActionOptions) -> Vec<String> {
    let default = ActionOptions::DEFAULT;
    let mut words = Vec::new();
    if options.local {
        words.push("local".to_owned());
    }
    if options.retries != default.retries {
        words.push(format!("retries = {}", options.retries));
    }
    if options.max_attempts != default.max_attempts {
        words.push(format!("max_attempts = {}", options.max_attempts));
    }
    if let Some(timeout) = options.timeout {
        words.push(format!("timeout = {timeout:?}"));
    }
    if options.at_most_once {
        words.push("at_most_once".to_owned());
    }
    words
}

fn write(findings: &Findings, width: Option<u16>, out: &mut dyn Write) -> Result<(), Stop> {
    let settings: Vec<_> = findings
        .configuration
        .iter()
        .map(|setting| {
            let value = match &setting.value {
                serde_json::Value::Null => "not set".to_owned(),
                serde_json::Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            vec![setting.key.clone(), value, setting.source.clone()]
        })
        .collect();
    let columns = [whole("key", 0), cut("value", 1), cut("source", 2)];
    output::line(out, &render(&columns, &settings, width, Long::Wrapped))?;
    output::line(out, "")?;
    if findings.handlers.is_empty() {
        let hint = "no handlers; a crate that nothing refers to is not linked: add `use my_handlers as _;`";
        output::line(out, hint)?;
    } else {
        let handlers: Vec<_> = findings
            .handlers
            .iter()
            .map(|handler| {
                vec![
                    handler.queue.to_owned(),
                    handler.action.to_owned(),
                    handler.kind.to_owned(),
                    handler.name.to_owned(),
                    handler.options.join(", "),
                    handler.at.clone(),
                ]
            })
            .collect();
        let columns = [
            cut("queue", 0),
            cut("action", 1),
            whole("kind", 5),
            cut("handler", 4),
            cut("options", 3),
            cut("at", 2),
        ];
        output::line(out, &render(&columns, &handlers, width, Long::Wrapped))?;
    }
    let database = &findings.database;
    let state = match database.ready {
        true => "ready, its tables are of this version",
        false => "not ready",
    };
    output::line(out, &format!("\ndatabase {}: {state}", database.address))?;
    if findings.faults.is_empty() {
        return output::line(out, "no faults");
    }
    let count = match findings.faults.len() {
        1 => "one fault".to_owned(),
        count => format!("{count} faults"),
    };
    output::line(out, &format!("\n{count}:"))?;
    for fault in &findings.faults {
        output::line(out, &format!("  {}", output::harmless(fault)))?;
    }
    Ok(())
}
