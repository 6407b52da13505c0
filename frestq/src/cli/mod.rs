//! The command line: what every peer's binary does with its arguments.
//!
//! Everything but serving and `--createdb` works whether the peer is up or down: what only reads does
//! so beside it, and what a person decides goes by the process that serves, if there is one.

mod audit;
mod certificate;
mod check;
mod decide;
mod external;
mod find;
mod flags;
mod list;
mod output;
mod peers;
mod show;
mod table;
#[cfg(test)]
mod tests;
mod tree;
mod watch;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use self::flags::Flags;
use crate::{
    app::App,
    config::{Loaded, Surroundings, masked_address},
    error::{Error, Result},
    logging,
    model::Status,
    store::{Purpose, Store},
};

/// Why a command ends early.
#[derive(Debug)]
enum Stop {
    /// It was asked for wrongly.
    Usage(Box<Error>),
    Failed(Box<Error>),
    /// Standard output takes no more.
    Output(io::Error),
}

impl<E: Into<Error>> From<E> for Stop {
    fn from(error: E) -> Self {
        Stop::Failed(Box::new(error.into()))
    }
}

/// The `main` of a peer's binary: reads flags and configuration, then serves or does what a flag
/// asks for. Returns 0 if all went well, 2 if it was called wrongly, and 1 otherwise.
pub fn main(configure: impl FnOnce(App) -> App) -> ExitCode {
    let flags = match Flags::read(std::env::args_os()) {
        Ok(flags) => flags,
        Err(error) => {
            // Help and version come by this way too, and may be piped into a pager that ends.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let surroundings = Surroundings::of_process(flags.settings());
    let code = start(&flags, &surroundings, configure).unwrap_or_else(|stop| report(&stop));
    ExitCode::from(code)
}

fn start(
    flags: &Flags,
    surroundings: &Surroundings,
    configure: impl FnOnce(App) -> App,
) -> Result<u8, Stop> {
    logging::start(&log_level(flags, surroundings)?);
    if let Some(name) = &flags.new_certificate {
        certificate::make(name, &mut io::stdout().lock())?;
        return Ok(0);
    }
    let app = configure(App::new());
    let loaded = Loaded::read(&app.config, surroundings)?;
    if flags.serves() {
        return serve(app, loaded, surroundings);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(no_runtime)?;
    let mut out = io::stdout().lock();
    let width = table::terminal_width();
    let code = runtime.block_on(run(flags, &app, loaded, width, &mut out))?;
    out.flush().map_err(Stop::Output)?;
    Ok(code)
}

fn log_level(flags: &Flags, surroundings: &Surroundings) -> Result<logging::LogLevel, Stop> {
    if let Some(level) = &flags.log_level {
        return Ok(level.clone());
    }
    match surroundings.variable("FRESTQ_LOG").map(str::parse) {
        None => Ok(logging::LogLevel::default()),
        Some(level) => {
            level.map_err(|why: String| Error::Config(format!("FRESTQ_LOG: {why}")).into())
        }
    }
}

fn serve(mut app: App, loaded: Loaded, surroundings: &Surroundings) -> Result<u8, Stop> {
    let (compiled, surroundings) = (app.config.clone(), surroundings.clone());
    app.reread = Some(Box::new(move || {
        let config = Loaded::read(&compiled, &surroundings)?.into_config()?;
        config.validate()?;
        Ok(config)
    }));
    app.config = loaded.into_config()?;
    app.config.validate()?;
    let mut runtime = match app.config.threads {
        // Without threads among which work moves, and each move wakes one up, it is faster.
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = runtime
        .worker_threads(app.config.threads)
        .enable_all()
        .build()
        .map_err(no_runtime)?;
    let served = runtime.block_on(app.serve());
    // The peer has waited for its handlers as long as it was told to: whatever thread still hangs
    // may not keep the process.
    runtime.shutdown_background();
    served?;
    Ok(0)
}

fn no_runtime(source: io::Error) -> Error {
    Error::Io {
        what: "starting the threads of the runtime".to_owned(),
        source,
    }
}

/// Does what a flag asks for, other than serving.
async fn run(
    flags: &Flags,
    app: &App,
    loaded: Loaded,
    width: Option<u16>,
    out: &mut dyn Write,
) -> Result<u8, Stop> {
    if flags.check {
        let sound = check::run(app, &loaded, flags.json, width, out).await?;
        return Ok(if sound { 0 } else { 1 });
    }
    list::filters(flags)?;
    audit::anchors(flags)?;
    let decision = decide::wanted(flags)?;
    let config = loaded.into_config()?;
    if let Some((id, decision)) = decision {
        decide::run(&config, id, decision, out).await?;
        return Ok(0);
    }
    let database = config.database();
    if flags.createdb {
        create(&database, &app.schema, out).await?;
        return Ok(0);
    }
    let store = Store::open(&database, Purpose::Look).await?;
    let done = match flags.peers {
        true => peers::list(&store, &config, flags.json, width, out)
            .await
            .map(|()| 0),
        false => read(flags, &store, width, out).await,
    };
    store.close().await;
    done
}

async fn read(
    flags: &Flags,
    store: &Store,
    width: Option<u16>,
    out: &mut dyn Write,
) -> Result<u8, Stop> {
    if flags.tasks {
        list::tasks(store, flags, width, out).await?;
    } else if flags.messages {
        list::messages(store, flags, width, out).await?;
    } else if flags.audit {
        audit::list(store, flags, width, out).await?;
    } else if flags.verify_audit.is_some() {
        let sound = audit::verify(store, flags, out).await?;
        return Ok(if sound { 0 } else { 1 });
    } else if let Some(id) = &flags.show_task {
        show::task(store, id, flags.json, out).await?;
    } else if let Some(id) = &flags.show_message {
        show::message(store, id, flags.json, out).await?;
    } else if let Some(id) = &flags.show_external {
        external::show(store, id, flags.json, out).await?;
    } else if let Some(id) = &flags.tree {
        tree::show(store, id, flags.with_parents, flags.json, width, out).await?;
    } else if let Some(id) = &flags.watch {
        let screen = width.filter(|_| !flags.json).map(watch::Screen::new);
        let ended = watch::follow(store, id, flags.json, screen, out).await?;
        return Ok(if ended == Status::Finished { 0 } else { 1 });
    }
    Ok(0)
}

/// `--createdb`
async fn create(database: &str, schema: &[&'static str], out: &mut dyn Write) -> Result<(), Stop> {
    let up_to_date = match Store::open(database, Purpose::Look).await {
        Ok(store) => {
            store.close().await;
            true
        }
        Err(_) => false,
    };
    let store = Store::open(database, Purpose::Create).await?;
    let made = store.run_schema(schema).await;
    store.close().await;
    made?;
    let ours = match up_to_date {
        true => "its tables are up to date",
        false => "its tables are made",
    };
    let own = match schema.len() {
        0 => String::new(),
        1 => "; ran the application's own statement".to_owned(),
        count => format!("; ran {count} statements of the application's own"),
    };
    output::line(
        out,
        &format!("database {}: {ours}{own}", masked_address(database)),
    )
}

/// Says on standard error why it went wrong, and returns the process's exit code.
fn report(stop: &Stop) -> u8 {
    let (code, text) = match stop {
        Stop::Output(error) if output::is_closed(error) => return 0,
        Stop::Output(error) => (1, format!("error: can't write to standard output: {error}")),
        Stop::Usage(error) => (2, format!("{}\n\nTry --help.", chain(error))),
        Stop::Failed(error) => (1, chain(error)),
    };
    // There is nowhere left to say that standard error is closed.
    let _ = writeln!(io::stderr(), "{text}");
    code
}

/// An error with its causes, leaving out those it has already told.
fn chain(error: &dyn std::error::Error) -> String {
    let mut told = format!("error: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !told.contains(&text) {
            told.push_str(&format!("\n  caused by: {text}"));
        }
        cause = error.source();
    }
    told
}
