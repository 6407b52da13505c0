//! Wiring: from a configuration to a serving peer.

use axum::{Router, routing::MethodRouter};

use crate::{handler::States, peer::Frestq};

/// What `frestq::main!` lets a peer add before it starts.
pub struct App {
    pub(crate) router: Router<Frestq>,
    pub(crate) states: States,
}

impl App {
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
}
