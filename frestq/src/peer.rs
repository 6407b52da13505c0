//! The handle to the running peer, for views, handlers and tests.

use std::sync::Arc;

use crate::{handler::States, model::PeerUrl};

/// This peer: sends tasks, reads results. Cheap to clone; axum views take it as `State<Frestq>`.
#[derive(Clone)]
pub struct Frestq(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) url: PeerUrl,
    pub(crate) states: States,
}

impl Frestq {
    /// This peer's root queues URL.
    pub fn url(&self) -> &PeerUrl {
        &self.0.url
    }

    /// A value that `app.state(...)` provided.
    pub fn state<T: Clone + Send + Sync + 'static>(&self) -> Option<T> {
        self.0.states.get()
    }
}
