//! What `inventory` collected, sorted and checked at start.

use std::{collections::BTreeMap, future::Future, panic::Location, pin::Pin};

use crate::{
    context::Task,
    error::{Error, Result, TaskError},
    handler::{Requirements, States},
    model::{ActionOptions, Json},
};

/// What a handler's run comes to.
pub type HandlerFuture = Pin<Box<dyn Future<Output = Result<Json, TaskError>> + Send>>;

/// Runs a handler for a task that holds its input.
pub type Run = fn(Task) -> HandlerFuture;

/// What a handler is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandlerKind {
    /// `#[frestq::task]`: runs tasks, reports back.
    Task,
    /// `#[frestq::message]`: takes raw messages, reports nothing.
    Message,
}

/// One handler, as the attribute macros submit it.
#[derive(Debug)]
pub struct Registration {
    /// Its queue.
    pub queue: &'static str,
    /// Its action.
    pub action: &'static str,
    /// Task or message.
    pub kind: HandlerKind,
    /// Its declared options.
    pub options: ActionOptions,
    /// The function's name, with the file and line it stands at.
    pub name: &'static str,
    /// See `name`.
    pub file: &'static str,
    /// See `name`.
    pub line: u32,
    /// Runs it.
    pub run: Run,
    /// Says what its arguments need.
    pub require: fn(&mut Requirements<'_>),
}

impl Registration {
    /// A handler that stands where this is called.
    #[track_caller]
    pub const fn new(
        kind: HandlerKind,
        name: &'static str,
        address: Address,
        options: ActionOptions,
        run: Run,
        require: fn(&mut Requirements<'_>),
    ) -> Self {
        let place = Location::caller();
        Self {
            queue: address.queue,
            action: address.action,
            kind,
            options,
            name,
            file: place.file(),
            line: place.line(),
            run,
            require,
        }
    }
}

/// Which action of which queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The queue.
    pub queue: &'static str,
    /// The action within it.
    pub action: &'static str,
}

inventory::collect!(Registration);

/// The handlers of this binary by queue and action.
pub(crate) struct Registry {
    handlers: BTreeMap<&'static str, BTreeMap<&'static str, &'static Registration>>,
    faults: Vec<String>,
}

impl Registry {
    /// Everything that was linked in.
    pub(crate) fn collect() -> Self {
        Self::new(inventory::iter::<Registration>())
    }

    /// `inventory` gives no order, so faults are sorted to read the same each time.
    fn new(registrations: impl IntoIterator<Item = &'static Registration>) -> Self {
        let mut all: Vec<_> = registrations.into_iter().collect();
        all.sort_by_key(|r| (r.queue, r.action, r.file, r.line));
        let mut registry = Self {
            handlers: BTreeMap::new(),
            faults: Vec::new(),
        };
        for handler in all {
            let slot = registry.handlers.entry(handler.queue).or_default();
            if let Some(first) = slot.get(handler.action) {
                registry.faults.push(format!(
                    "  two handlers for action {:?} of queue {:?}: `{}` at {}:{} and `{}` at {}:{}; rename or remove one",
                    handler.action,
                    handler.queue,
                    first.name,
                    first.file,
                    first.line,
                    handler.name,
                    handler.file,
                    handler.line,
                ));
            } else {
                slot.insert(handler.action, handler);
            }
        }
        registry
    }

    pub(crate) fn get(&self, queue: &str, action: &str) -> Option<&'static Registration> {
        self.handlers.get(queue)?.get(action).copied()
    }

    /// Every handler, by queue and action.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &'static Registration> + '_ {
        self.handlers
            .values()
            .flat_map(|queue| queue.values().copied())
    }

    pub(crate) fn queues(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.handlers.keys().copied()
    }

    /// What an unknown action is answered with: what there is, and why something may be missing.
    pub(crate) fn describe(&self) -> String {
        let known: Vec<_> = self
            .iter()
            .filter(|h| !h.options.local)
            .map(|h| format!("{}/{}", h.queue, h.action))
            .collect();
        if known.is_empty() {
            "no actions are registered here; a crate of handlers that nothing names is not linked in: `use my_handlers as _;`"
                .to_owned()
        } else {
            format!("registered here: {}", known.join(", "))
        }
    }

    /// Every fault at once: doubles, missing states, configured queues that nobody serves.
    pub(crate) fn check<'a>(
        &self,
        states: &States,
        configured: impl Iterator<Item = &'a str>,
    ) -> Result<()> {
        let mut faults = self.faults.clone();
        for handler in self.iter() {
            let mut requirements = Requirements::new(states);
            (handler.require)(&mut requirements);
            for missing in requirements.missing() {
                faults.push(format!(
                    "  `{}` at {}:{} takes State<{missing}>, which nobody provides; add `.state(...)` in frestq::main!",
                    handler.name, handler.file, handler.line
                ));
            }
        }
        for queue in configured.filter(|queue| !self.handlers.contains_key(queue)) {
            let known: Vec<_> = self.queues().collect();
            faults.push(format!("  the configuration has [queues.{queue}], which no handler serves; queues here: {}", known.join(", ")));
        }
        if faults.is_empty() {
            Ok(())
        } else {
            Err(Error::Handlers(faults))
        }
    }
}
