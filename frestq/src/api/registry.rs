//! The registry of handlers: what `inventory` has collected, sorted and checked at start.

use std::{collections::BTreeMap, future::Future, panic::Location, pin::Pin};

use super::{context::Task, director::Group, handler::Requirements, states::States};
use crate::model::{
    ActionOptions, Json, TaskId,
    catalog::{Address, Catalog, DIRECTORS, HandlerInfo, HandlerKind},
    error::{Error, Result, TaskError},
};

/// The future of a handler's run.
pub type HandlerFuture = Pin<Box<dyn Future<Output = Result<Json, TaskError>> + Send>>;

/// Runs a handler for a task that holds its input.
pub type Run = fn(Task) -> HandlerFuture;

/// The future of `handle_error`: `None` propagates the error, an output continues with it.
pub type HandleErrorFuture = Pin<Box<dyn Future<Output = Result<Option<Json>, TaskError>> + Send>>;

/// Calls `handle_error`, after an error of the task's own run or of a child.
pub type HandleError = fn(Task, TaskError) -> HandleErrorFuture;

/// Calls `reserve` or `cancel_reservation`.
pub type Reserve = fn(Task) -> HandlerFuture;

/// The future of a director, with the inputs that it has changed.
pub type DirectFuture =
    Pin<Box<dyn Future<Output = Result<Vec<(TaskId, Json)>, TaskError>> + Send>>;

/// Calls a director: before the start, or, with `true`, after a failed round.
pub type Direct = fn(Group, bool) -> DirectFuture;

/// Declares what the arguments of a handler need.
pub type Require = fn(&mut Requirements<'_>);

/// A handler, as the attribute macros register it.
#[derive(Debug)]
pub struct Registration {
    /// Its address, kind and options.
    pub info: HandlerInfo,
    /// The name of the function or type.
    pub name: &'static str,
    /// The file of its attribute.
    pub file: &'static str,
    /// The line of its attribute.
    pub line: u32,
    /// Runs a task.
    pub run: Run,
    /// Declares what its arguments need.
    pub require: Require,
    /// Calls `handle_error`; `None` if it propagates every error.
    pub handle_error: Option<HandleError>,
    /// Calls `reserve`; `None` if its tasks only need a slot.
    pub reserve: Option<Reserve>,
    /// Calls `cancel_reservation`.
    pub cancel_reservation: Option<Reserve>,
    /// Calls the director.
    pub direct: Option<Direct>,
}

impl Registration {
    /// A handler registered at the place of the call.
    #[track_caller]
    pub const fn new(
        kind: HandlerKind,
        name: &'static str,
        address: Address,
        options: ActionOptions,
        run: Run,
        require: Require,
    ) -> Self {
        let caller = Location::caller();
        Self {
            info: HandlerInfo {
                queue: address.queue,
                action: address.action,
                kind,
                options,
            },
            name,
            file: caller.file(),
            line: caller.line(),
            run,
            require,
            handle_error: None,
            reserve: None,
            cancel_reservation: None,
            direct: None,
        }
    }

    /// Adds `handle_error`. The options say so too, since the engine sees only them.
    pub const fn handling_errors(mut self, handle_error: HandleError) -> Self {
        self.handle_error = Some(handle_error);
        self.info.options.handles_errors = true;
        self
    }

    /// Adds `reserve`.
    pub const fn reserving(mut self, reserve: Reserve) -> Self {
        self.reserve = Some(reserve);
        self
    }

    /// Adds `cancel_reservation`.
    pub const fn cancelling_reservations(mut self, cancel: Reserve) -> Self {
        self.cancel_reservation = Some(cancel);
        self
    }

    /// A director registered at the place of the call.
    #[track_caller]
    pub const fn director(name: &'static str, type_name: &'static str, direct: Direct) -> Self {
        let address = Address {
            queue: DIRECTORS,
            action: name,
        };
        let options = ActionOptions {
            local: true,
            ..ActionOptions::DEFAULT
        };
        let mut director = Self::new(
            HandlerKind::Director,
            type_name,
            address,
            options,
            |_| {
                Box::pin(async {
                    Err(TaskError::new(
                        TaskError::FAILED,
                        "a director runs no tasks of its own",
                    ))
                })
            },
            |_| {},
        );
        director.direct = Some(direct);
        director
    }

    /// Its function or type and its source location, for error messages.
    fn location(&self) -> String {
        format!("`{}` at {}:{}", self.name, self.file, self.line)
    }
}

inventory::collect!(Registration);

/// The handlers of this binary, by queue and action.
pub(crate) struct Registry {
    handlers: BTreeMap<&'static str, BTreeMap<&'static str, &'static Registration>>,
    faults: Vec<String>,
}

impl Registry {
    /// Collects all linked handlers. If queues are named, only their handlers and all directors.
    pub(crate) fn collect(only: &[String]) -> Self {
        let selected = |handler: &&Registration| {
            only.is_empty()
                || handler.info.kind == HandlerKind::Director
                || only.iter().any(|queue| queue == handler.info.queue)
        };
        let mut registry = Self::new(inventory::iter::<Registration>().filter(selected));
        if only
            .iter()
            .any(|queue| !registry.handlers.contains_key(queue.as_str()))
        {
            let all = Self::new(inventory::iter::<Registration>());
            registry.faults.extend(all.narrowing_faults(only));
        }
        registry
    }

    /// The errors for queues of `.only(...)` that no handler serves.
    fn narrowing_faults<'a>(&'a self, only: &'a [String]) -> impl Iterator<Item = String> + 'a {
        let served = |queue: &str| queue != DIRECTORS && self.handlers.contains_key(queue);
        let unserved = only.iter().filter(move |queue| !served(queue));
        unserved.map(|queue| {
            let hint = self.nearest(queue, |known| format!(".only({known:?})"));
            format!("  .only({queue:?}) names a queue that no handler serves; {hint}")
        })
    }

    /// `inventory` has no order, so errors are sorted to be the same each time.
    fn new(registrations: impl IntoIterator<Item = &'static Registration>) -> Self {
        let mut all: Vec<_> = registrations.into_iter().collect();
        all.sort_by_key(|r| (r.info.queue, r.info.action, r.file, r.line));
        let mut registry = Self {
            handlers: BTreeMap::new(),
            faults: Vec::new(),
        };
        for handler in all {
            let slot = registry.handlers.entry(handler.info.queue).or_default();
            if let Some(first) = slot.get(handler.info.action) {
                registry.faults.push(format!(
                    "  two handlers for action {:?} of queue {:?}: {} and {}; rename or remove one",
                    handler.info.action,
                    handler.info.queue,
                    first.location(),
                    handler.location(),
                ));
            } else {
                slot.insert(handler.info.action, handler);
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

    /// The catalog of the handlers, for the layers above `api`.
    pub(crate) fn catalog(&self) -> Catalog {
        self.iter().map(|handler| handler.info).collect()
    }

    /// Reports all errors at once: duplicate handlers, empty names, missing states, configured
    /// queues that no handler serves.
    pub(crate) fn check<'a>(
        &self,
        states: &States,
        configured: impl Iterator<Item = &'a str>,
    ) -> Result<()> {
        let mut faults = self.faults.clone();
        for handler in self.iter() {
            let location = handler.location();
            // The macros reject these; an `Action` written by hand gets here.
            if handler.info.queue.is_empty() || handler.info.action.is_empty() {
                faults.push(format!(
                    "  {location} serves action {:?} of queue {:?}; neither name may be empty",
                    handler.info.action, handler.info.queue
                ));
            }
            let mut requirements = Requirements::new(states);
            (handler.require)(&mut requirements);
            faults.extend(requirements.missing().into_iter().map(|missing| {
                format!(
                    "  {location} takes State<{missing}>, which the application does not provide; \
                     add `.state(...)` in frestq::main!"
                )
            }));
        }
        let unserved = configured.filter(|queue| !self.handlers.contains_key(queue));
        faults.extend(unserved.map(|queue| self.unserved(queue)));
        if faults.is_empty() {
            Ok(())
        } else {
            Err(Error::Handlers(faults))
        }
    }

    /// The error for a configured queue without handlers.
    fn unserved(&self, queue: &str) -> String {
        let hint = self.nearest(queue, |known| format!("[queues.{known}]"));
        format!("  the configuration has [queues.{queue}], which no handler serves; {hint}")
    }

    /// A hint: the most similar queue, as `spell` writes it, or a list of all queues.
    fn nearest(&self, queue: &str, spell: impl Fn(&str) -> String) -> String {
        let named = || self.queues().filter(|known| *known != DIRECTORS);
        let nearest = named()
            .map(|known| (strsim::damerau_levenshtein(known, queue), known))
            .min()
            .filter(|(distance, _)| *distance <= 2);
        match nearest {
            Some((_, known)) => format!("did you mean {}?", spell(known)),
            None if named().next().is_none() => "there are no handlers here".to_owned(),
            None => format!("queues here: {}", named().collect::<Vec<_>>().join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELLO: Address = Address {
        queue: "say_queue",
        action: "hello_world",
    };

    #[track_caller]
    fn registered(name: &'static str, address: Address, require: Require) -> &'static Registration {
        Box::leak(Box::new(Registration::new(
            HandlerKind::Task,
            name,
            address,
            ActionOptions::DEFAULT,
            |_| Box::pin(async { Ok(crate::model::null()) }),
            require,
        )))
    }

    fn faults(registry: &Registry, states: &States, configured: &[&str]) -> Vec<String> {
        match registry.check(states, configured.iter().copied()) {
            Err(Error::Handlers(faults)) => faults,
            Err(error) => vec![error.to_string()],
            Ok(()) => Vec::new(),
        }
    }

    #[test]
    fn a_handler_is_found_by_queue_and_action() {
        let registry = Registry::new([registered("hello", HELLO, |_| {})]);
        let found = registry.get("say_queue", "hello_world").unwrap();
        assert_eq!((found.name, found.info.kind), ("hello", HandlerKind::Task));
        assert!(registry.get("say_queue", "hello").is_none());
        assert!(registry.get("hello_world", "say_queue").is_none());
    }

    #[test]
    fn a_registration_knows_its_source_location() {
        let handler = registered("hello", HELLO, |_| {});
        assert_eq!((handler.file, handler.line), (file!(), line!() - 1));
    }

    #[test]
    fn the_options_say_which_handlers_handle_errors() {
        let silent = registered("silent", HELLO, |_| {});
        assert!(silent.handle_error.is_none());
        assert!(!silent.info.options.handles_errors);
        let asked = Registration::new(
            HandlerKind::Task,
            "asked",
            HELLO,
            ActionOptions::DEFAULT,
            silent.run,
            silent.require,
        )
        .handling_errors(|_, _| Box::pin(async { Ok(None) }));
        assert!(asked.handle_error.is_some());
        assert!(asked.info.options.handles_errors);
    }

    #[test]
    fn every_fault_is_listed_at_once_with_file_and_line() {
        let first = registered("first", HELLO, |r| r.state::<u8>());
        let second = registered("second", HELLO, |_| {});
        let registry = Registry::new([second, first]);
        let faults = faults(
            &registry,
            &States::default(),
            &["say_queue", "sayqueue", "other"],
        );
        let (file, line) = (file!(), first.line);
        assert_eq!(
            faults,
            [
                format!(
                    "  two handlers for action \"hello_world\" of queue \"say_queue\": \
                     `first` at {file}:{line} and `second` at {file}:{}; rename or remove one",
                    second.line
                ),
                format!(
                    "  `first` at {file}:{line} takes State<u8>, which the application does not provide; \
                     add `.state(...)` in frestq::main!"
                ),
                "  the configuration has [queues.sayqueue], which no handler serves; \
                 did you mean [queues.say_queue]?"
                    .to_owned(),
                "  the configuration has [queues.other], which no handler serves; \
                 queues here: say_queue"
                    .to_owned(),
            ]
        );
    }

    #[test]
    fn an_unserved_queue_in_only_is_an_error() {
        let registry = Registry::new([registered("hello", HELLO, |_| {})]);
        let only = ["say_queue".to_owned(), "sayqueue".into(), "other".into()];
        let faults: Vec<_> = registry.narrowing_faults(&only).collect();
        assert_eq!(
            faults,
            [
                "  .only(\"sayqueue\") names a queue that no handler serves; \
                 did you mean .only(\"say_queue\")?",
                "  .only(\"other\") names a queue that no handler serves; queues here: say_queue",
            ]
        );
    }

    #[test]
    fn faults_read_the_same_in_any_order_of_registration() {
        let some: Vec<_> = (0..3).map(|_| registered("same", HELLO, |_| {})).collect();
        let forwards = Registry::new(some.iter().copied());
        let backwards = Registry::new(some.iter().rev().copied());
        assert_eq!(forwards.faults.len(), 2);
        assert_eq!(forwards.faults, backwards.faults);
    }

    #[test]
    fn a_provided_state_and_the_peer_itself_are_no_fault() {
        let mut states = States::default();
        states.insert(7_u8);
        let registry = Registry::new([registered("hello", HELLO, |requirements| {
            requirements.state::<u8>();
            requirements.state::<crate::Frestq>();
        })]);
        assert!(faults(&registry, &states, &["say_queue"]).is_empty());
    }

    #[test]
    fn an_action_written_by_hand_may_not_be_nameless() {
        let nameless = Address {
            queue: "",
            action: "hello_world",
        };
        let registry = Registry::new([registered("hello", nameless, |_| {})]);
        let faults = faults(&registry, &States::default(), &[]);
        assert!(
            faults[0].contains("neither name may be empty"),
            "{faults:?}"
        );
    }

    #[test]
    fn an_unknown_action_is_answered_with_the_known_actions() {
        let registry = Registry::new([registered("hello", HELLO, |_| {})]);
        assert_eq!(
            registry.catalog().describe(),
            "registered here: say_queue/hello_world"
        );
        assert!(
            Registry::new([])
                .catalog()
                .describe()
                .contains("use my_handlers as _;")
        );
    }
}
