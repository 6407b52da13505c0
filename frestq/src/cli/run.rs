//! Runs the command line of a peer's binary.
//!
//! Everything but serving and `--createdb` works whether the peer is running or not: commands
//! that read do so beside it, and commands of the operator are carried out by the serving
//! process, if there is one.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use super::{
    audit, certificate, check, decide, external,
    flags::Flags,
    list, output, peers, show,
    stop::{Stop, report},
    table, tree, watch,
};
use crate::{
    config::{
        load::{Environment, Loaded},
        secrets::masked_address,
    },
    logging,
    model::{
        Status,
        error::{Error, Result},
    },
    server::App,
    store::{OpenMode, Store},
};

impl App {
    /// Runs the application as the binary of a peer: reads flags and configuration, then serves
    /// until SIGTERM or Ctrl-C, or does what a flag asks for.
    ///
    /// [`frestq::main!`](crate::main) calls it.
    ///
    /// The exit code is 0 on success, 2 if the command line is invalid, and 1 otherwise. Errors
    /// are written to standard error. Call it outside of an async runtime: it creates its own.
    ///
    /// ```no_run
    /// fn main() -> std::process::ExitCode {
    ///     frestq::App::new().configure(|c| c.port = 5001).run()
    /// }
    /// ```
    #[must_use = "return it from main"]
    pub fn run(self) -> ExitCode {
        let flags = match Flags::read(std::env::args_os()) {
            Ok(flags) => flags,
            Err(error) => {
                // Help and version are printed here as well, possibly into a pager that ends
                // early.
                let _ = error.print();
                return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
            }
        };
        let environment = Environment::of_process(flags.settings());
        let code = dispatch(self, &flags, &environment).unwrap_or_else(|stop| report(&stop));
        ExitCode::from(code)
    }
}

/// Serves, or does what a flag asks for.
fn dispatch(app: App, flags: &Flags, environment: &Environment) -> Result<u8, Stop> {
    logging::start(&log_level(flags, environment)?);
    if let Some(name) = &flags.new_certificate {
        certificate::make(name, &mut io::stdout().lock())?;
        return Ok(0);
    }
    let loaded = app.load(environment)?;
    if flags.serves() {
        return serve(app, loaded, environment);
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

fn log_level(flags: &Flags, environment: &Environment) -> Result<logging::LogLevel, Stop> {
    if let Some(level) = &flags.log_level {
        return Ok(level.clone());
    }
    match environment.variable("FRESTQ_LOG").map(str::parse) {
        None => Ok(logging::LogLevel::default()),
        Some(level) => {
            level.map_err(|why: String| Error::Config(format!("FRESTQ_LOG: {why}")).into())
        }
    }
}

fn serve(mut app: App, loaded: Loaded, environment: &Environment) -> Result<u8, Stop> {
    let (compiled, environment) = (app.config.clone(), environment.clone());
    let section = app.section().cloned();
    app.reread = Some(Box::new(move || {
        let config = Loaded::read(&compiled, section.as_ref(), &environment)?.into_config()?;
        config.validate()?;
        Ok(config)
    }));
    app.adopt(loaded)?;
    let mut runtime = match app.config.threads {
        // One thread without work stealing and its wake-ups is faster.
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = runtime
        .worker_threads(app.config.threads)
        .enable_all()
        .build()
        .map_err(no_runtime)?;
    let served = runtime.block_on(app.serve_until_signal());
    // The peer has waited for its handlers up to `shutdown_timeout`; a thread that still hangs
    // must not keep the process alive.
    runtime.shutdown_background();
    served?;
    Ok(0)
}

fn no_runtime(source: io::Error) -> Error {
    Error::Io {
        what: "can't start the threads of the runtime".to_owned(),
        source,
    }
}

/// Does what a flag asks for, other than serving.
pub(super) async fn run(
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
    let command = decide::requested(flags)?;
    let config = loaded.into_config()?;
    if let Some((id, command)) = command {
        decide::run(&config, &app.registry().catalog(), id, command, out).await?;
        return Ok(0);
    }
    let database = config.database();
    if flags.createdb {
        create(&database, &app.schema, out).await?;
        return Ok(0);
    }
    let store = Store::open(&database, OpenMode::Look).await?;
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
    let up_to_date = match Store::open(database, OpenMode::Look).await {
        Ok(store) => {
            store.close().await;
            true
        }
        Err(_) => false,
    };
    let store = Store::open(database, OpenMode::Create).await?;
    let created = store.run_schema(schema).await;
    store.close().await;
    created?;
    let ours = match up_to_date {
        true => "its tables are up to date",
        false => "its tables are created",
    };
    let own = match schema.len() {
        0 => String::new(),
        1 => "; ran the statement of the application".to_owned(),
        count => format!("; ran {count} statements of the application"),
    };
    output::line(
        out,
        &format!("database {}: {ours}{own}", masked_address(database)),
    )
}
