//! The catalog of registered handlers: names and options, without functions.

use std::collections::BTreeMap;

use super::ActionOptions;

/// The queue of directors, which no received task can enter.
pub(crate) const DIRECTORS: &str = "internal.directors";

/// The kind of a handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandlerKind {
    /// `#[frestq::task]`: runs tasks, and reports back.
    Task,
    /// `#[frestq::message]`: takes raw messages, and reports nothing.
    Message,
    /// `#[frestq::director]`: directs synchronized groups of this peer.
    Director,
}

/// The address of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The queue.
    pub queue: &'static str,
    /// The action within it.
    pub action: &'static str,
}

/// A handler without its functions, for the layers that don't run it.
#[derive(Clone, Copy, Debug)]
pub struct HandlerInfo {
    /// Its queue.
    pub queue: &'static str,
    /// Its action.
    pub action: &'static str,
    /// Task, message or director.
    pub kind: HandlerKind,
    /// Its declared options.
    pub options: ActionOptions,
}

/// The handlers of this peer, by queue and action.
#[derive(Debug, Default)]
pub(crate) struct Catalog(BTreeMap<&'static str, BTreeMap<&'static str, HandlerInfo>>);

impl Catalog {
    pub(crate) fn get(&self, queue: &str, action: &str) -> Option<HandlerInfo> {
        self.0.get(queue)?.get(action).copied()
    }

    /// The options of an action; the defaults if it has no handler here.
    pub(crate) fn options(&self, queue: &str, action: &str) -> ActionOptions {
        self.get(queue, action)
            .map_or(ActionOptions::DEFAULT, |handler| handler.options)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = HandlerInfo> + '_ {
        self.0.values().flat_map(|queue| queue.values().copied())
    }

    pub(crate) fn queues(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.0.keys().copied()
    }

    /// The answer to an unknown action: the known actions, or why there may be none.
    pub(crate) fn describe(&self) -> String {
        self.describe_if(|_, _| true)
    }

    /// Like [`describe`](Self::describe), restricted to the actions that `visible` allows.
    pub(crate) fn describe_if(&self, visible: impl Fn(&str, &str) -> bool) -> String {
        let known: Vec<_> = self
            .iter()
            .filter(|h| !h.options.local && visible(h.queue, h.action))
            .map(|h| format!("{}/{}", h.queue, h.action))
            .collect();
        if known.is_empty() {
            "no actions are registered here; \
             a crate that nothing refers to is not linked: add `use my_handlers as _;`"
                .to_owned()
        } else {
            format!("registered here: {}", known.join(", "))
        }
    }
}

impl FromIterator<HandlerInfo> for Catalog {
    fn from_iter<T: IntoIterator<Item = HandlerInfo>>(handlers: T) -> Self {
        let mut catalog = Self::default();
        for handler in handlers {
            let queue = catalog.0.entry(handler.queue).or_default();
            queue.insert(handler.action, handler);
        }
        catalog
    }
}
