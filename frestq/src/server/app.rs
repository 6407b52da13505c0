//! An application before it is a peer: its views, values, hooks and defaults.

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

/// A peer that is being put together: the handlers that are linked in, and what the application
/// adds.
///
/// [`run`](Self::run) makes the whole binary of it, and [`frestq::main!`](crate::main) is short
/// for that. An application that has its own runtime, listener and signals embeds the peer
/// instead: with [`serve`](Self::serve) on a listener, or with [`start`](Self::start) in its own
/// axum router.
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
    /// The queues whose handlers it has; all if empty.
    only: Vec<String>,
    /// Reads the configuration again while the peer serves.
    pub(crate) reread: Option<Reread>,
}

/// Reads the configuration from all its layers.
pub(crate) type Reread = Box<dyn Fn() -> Result<Config> + Send + Sync>;

impl App {
    /// An application with every handler that is linked in, and the default configuration.
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

    /// Provides a value for handlers that take `State<T>`.
    pub fn state<T: Clone + Send + Sync + 'static>(mut self, value: T) -> Self {
        self.states.insert(value);
        self
    }

    /// Sets this peer's own defaults. The file, the environment and flags override them.
    pub fn configure(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    /// Adds a statement that creates tables of the application's own. `--createdb` runs it after
    /// it has made the tables of frestq. It must be safe to repeat:
    /// `CREATE TABLE IF NOT EXISTS ...`.
    pub fn schema(mut self, statement: &'static str) -> Self {
        self.schema.push(statement);
        self
    }

    /// Narrows the handlers to those of this queue. Repeat it for several queues.
    ///
    /// So one binary, such as a test's, can be several peers. Directors stay in any case. A queue
    /// that no handler of the binary serves is a fault at the start.
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

    /// Runs a loop of the application's own beside the peer.
    ///
    /// It starts once the peer accepts messages, on the threads of the handlers. When the peer
    /// stops, the loop is cancelled at its next `await`; one that blocks its thread is given up
    /// after 5 s. After an error or a panic, which are logged, it starts again: after 1 s at
    /// first, then after twice as long each time, up to a minute, and after 1 s again once it has
    /// run for over a minute. `Ok` ends it for good.
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

    /// Runs once at the start: the database is open, and no message is accepted yet.
    ///
    /// Several run in the order in which they were added. An error or a panic stops the start, and
    /// the database is closed. It may send tasks, but no handler runs and nothing is delivered
    /// until all hooks have ended, so don't wait for their output. `serve` gives up a hook that is
    /// awaiting something when its shutdown comes, and SIGTERM ends a binary that is still
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

    /// Runs once at the end: the last handler has ended, and the database is still open.
    ///
    /// Several run in the order in which they were added, on the threads of the handlers. Together
    /// they have 10 s; after that the peer stops without them. An error or a panic is logged. What
    /// they send is on disk, and may be delivered only after the next start.
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

    /// Makes the database that the configuration names, or brings its tables up to date, as
    /// `--createdb` does. Safe to repeat.
    ///
    /// # Errors
    ///
    /// [`Error::Schema`](crate::Error::Schema) if a newer version made the tables; those of the
    /// database, and of the application's own statements.
    pub async fn create_database(&self) -> Result<()> {
        let store = Store::open(&self.config.database(), OpenMode::Create).await?;
        let made = store.run_schema(&self.schema).await;
        store.close().await;
        made
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
