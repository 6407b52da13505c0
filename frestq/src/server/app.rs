//! An application before it starts: its views, states, hooks and defaults.

use std::future::Future;

use axum::{Router, routing::MethodRouter};

use super::{hooks::Hooks, settings::AppSettings};
use crate::{
    api::{peer::Frestq, registry::Registry, states::States},
    config::Config,
    model::error::Result,
    runtime::clock::Clock,
    store::{OpenMode, Store},
};

/// The builder of a peer: the linked handlers and what the application adds.
///
/// [`run`](Self::run) makes it a complete binary; [`frestq::main!`](crate::main) is its short
/// form. An application with its own runtime, listener and signals embeds the peer instead: with
/// [`serve`](Self::serve) on a listener, or with [`start`](Self::start) in its own axum router.
///
/// ```no_run
/// use frestq::{App, prelude::*};
///
/// fn main() -> std::process::ExitCode {
///     App::new().configure(|c| c.port = 5001).state(42_u64).run()
/// }
/// ```
#[must_use = "an application does nothing until it runs"]
pub struct App {
    pub(crate) router: Router<Frestq>,
    pub(crate) states: States,
    pub(crate) config: Config,
    pub(crate) schema: Vec<&'static str>,
    pub(crate) clock: Clock,
    pub(super) hooks: Hooks,
    pub(super) settings: Option<AppSettings>,
    /// The queues whose handlers it has; empty for all.
    only: Vec<String>,
    /// Reads the configuration again while the peer is serving.
    pub(crate) reread: Option<Reread>,
}

/// Reads the configuration from all its layers.
pub(crate) type Reread = Box<dyn Fn() -> Result<Config> + Send + Sync>;

impl App {
    /// Makes an application with all linked handlers and the default configuration.
    pub fn new() -> Self {
        Self {
            router: Router::new(),
            states: States::default(),
            config: Config::default(),
            schema: Vec::new(),
            clock: Clock::default(),
            hooks: Hooks::default(),
            settings: None,
            only: Vec::new(),
            reread: None,
        }
    }

    /// Adds an axum view. It takes the peer as `State<Frestq>`.
    pub fn route(mut self, path: &str, view: MethodRouter<Frestq>) -> Self {
        self.router = self.router.route(path, view);
        self
    }

    /// Adds a value for handlers that take `State<T>`.
    pub fn state<T: Clone + Send + Sync + 'static>(mut self, value: T) -> Self {
        self.states.insert(value);
        self
    }

    /// Sets the application's defaults of the configuration. The file, the environment and flags
    /// override them.
    pub fn configure(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    /// Adds an SQL statement that creates tables of the application.
    ///
    /// `--createdb` runs it after it has created the tables of frestq. It must be safe to repeat,
    /// such as `CREATE TABLE IF NOT EXISTS ...`.
    pub fn schema(mut self, statement: &'static str) -> Self {
        self.schema.push(statement);
        self
    }

    /// Restricts the handlers to those of this queue. Repeat it for several queues.
    ///
    /// This lets one binary, such as a test, be several peers. Directors are always kept. A queue
    /// that no handler of the binary serves is an error at start.
    ///
    /// ```
    /// use frestq::App;
    ///
    /// let laboratory = App::new().only("samples").only("reports");
    /// ```
    pub fn only(mut self, queue: impl Into<String>) -> Self {
        self.only.push(queue.into());
        self
    }

    /// Adds a background loop of the application, which runs beside the peer.
    ///
    /// It starts once the peer accepts messages, on the threads of the handlers. When the peer
    /// stops, the loop is cancelled at its next `await`; after 5 s the peer stops without a loop
    /// that blocks its thread. An error or a panic is logged, and the loop is restarted with
    /// backoff: after 1 s, doubling up to 60 s, and from 1 s again once it has run for more than
    /// a minute. `Ok` ends it for good.
    ///
    /// ```
    /// use frestq::{App, Frestq};
    ///
    /// async fn report(peer: Frestq) -> anyhow::Result<()> {
    ///     loop {
    ///         tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    ///         println!("{} is well", peer.url());
    ///     }
    /// }
    ///
    /// let app = App::new().background("report", report);
    /// ```
    pub fn background<F>(
        mut self,
        name: impl Into<String>,
        run: impl Fn(Frestq) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        self.hooks.add_background(name.into(), run);
        self
    }

    /// Adds a hook that runs once at start, when the database is open and no message is accepted
    /// yet.
    ///
    /// Hooks run in the order in which they were added. An error or a panic stops the start, and
    /// the database is closed. A hook may send tasks, but no handler runs and nothing is
    /// delivered until all hooks have ended, so don't wait for outputs. `serve` drops a hook at
    /// an `await` when its shutdown future completes; SIGTERM ends a binary that is still
    /// starting.
    ///
    /// ```
    /// use frestq::App;
    ///
    /// let app = App::new().on_start(async |peer| {
    ///     println!("{} starts", peer.url());
    ///     Ok(())
    /// });
    /// ```
    pub fn on_start<F>(mut self, run: impl FnOnce(Frestq) -> F + Send + 'static) -> Self
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        self.hooks.add_on_start(run);
        self
    }

    /// Adds a hook that runs once at shutdown, when the last handler has ended and the database
    /// is still open.
    ///
    /// Hooks run in the order in which they were added, on the threads of the handlers. All
    /// together may take 10 s; after that the peer stops without them. An error or a panic is
    /// logged. Tasks that they send are stored, but may not be delivered before the next start.
    ///
    /// ```
    /// use frestq::App;
    ///
    /// let app = App::new().on_shutdown(async |peer| {
    ///     println!("{} has no handlers left that run", peer.url());
    ///     Ok(())
    /// });
    /// ```
    pub fn on_shutdown<F>(mut self, run: impl FnOnce(Frestq) -> F + Send + 'static) -> Self
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        self.hooks.add_on_shutdown(run);
        self
    }

    /// Creates the database of the configuration, or migrates its tables, as `--createdb` does.
    /// It is safe to repeat.
    ///
    /// # Errors
    ///
    /// [`Error::Schema`](crate::Error::Schema) if a newer version created the tables; errors of
    /// the database and of the application's own statements.
    pub async fn create_database(&self) -> Result<()> {
        let store = Store::open(&self.config.database(), OpenMode::Create).await?;
        let created = store.run_schema(&self.schema).await;
        store.close().await;
        created
    }

    /// The handlers of this application.
    pub(crate) fn registry(&self) -> Registry {
        Registry::collect(&self.only)
    }
}

impl Default for App {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App")
            .field("only", &self.only)
            .finish_non_exhaustive()
    }
}
