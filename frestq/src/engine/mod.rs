//! The decisions: rows, an event and the time go in, changes come out. Nothing here awaits,
//! reads a clock or opens a socket.
//!
//! [`step()`] reads rows through a [`StepContext`]. A row that is not loaded yet ends the step
//! with [`MissingRow`]; the caller loads what all steps of its batch miss and runs those again.
//! So an event says by itself what it needs, and a batch of a thousand costs a handful of queries.
//!
//! May import `model` and `protocol`.
//!
//! # The files
//!
//! Each file imports only from those above it. `step` alone hands an event to the file of its
//! subject. What a change entails elsewhere in the tree is queued as a `Consequence`, and `step`
//! works the queue off. So the task that it concerns is read afresh, and no tree is too deep.
//!
//! ```text
//! event, transition   what happens; which status may follow which
//! messages            the messages that decisions cause
//! batch_state         the rows of a batch, and the changes to write
//! prefetch            the rows that an event is sure to need
//! step_context        one event's view of the batch
//! ownership           whether the sender of a message has a say about a task
//! ending              finish, fail, stop, cancel, expire
//! run                 claims, runs that end, runs that are repeated
//! tree                children start, end, and hand over to one another
//! round               the rounds of a synchronized group
//! outbound_task, local_task, external, participant, synchronized
//! step                dispatches
//! ```
//!
//! # The life of a task
//!
//! A task that another peer runs, as its sender sees it. The receiver decides, by its answers and
//! updates.
//!
//! ```text
//!      created
//!         |    +-- the receiver refuses it ------------> error
//!         |    +-- its message is given up ------------> undeliverable
//!         | the receiver acknowledges it
//!         v
//!      sent
//!         | an update; of a synchronized group, see there
//!         v
//!      executing
//!         |    +-- an update --------------------------> error
//!         | an update
//!         v
//!      finished
//! ```
//!
//! An update may overtake the acknowledgement, and may skip statuses. `transition` has the table.
//!
//! A task that runs here, received or our own. In parentheses is what its handler is wanted for.
//! The worker claims it when a slot of its queue is free, and reports how the run ended.
//!
//! ```text
//!      created
//!         | its turn in the tree comes
//!         v
//!  +-> created (Execute)
//!  |      | the worker claims it
//!  |      v
//!  |   executing (Execute)
//!  +------+ the run is interrupted, or fails with retries left
//!         |    +-- it fails ---------------------------> error
//!         |    +-- it succeeds, without subtasks ------> finished
//!         | it succeeds, with subtasks
//!         v
//!  +-> executing: its subtasks run
//!  |      |    +-- a subtask fails --------------------> error
//!  |      |    +-- all have finished ------------------> finished
//!  |      | a subtask or the run fails, and the action handles errors
//!  |      v
//!  |   executing (HandleError)
//!  |      |    +-- the handler returns an error -------> error
//!  |      |    +-- it recovers, with no subtask left --> finished
//!  +------+ it recovers
//! ```
//!
//! An interrupted run is repeated up to the action's `max_attempts`, and never where the action
//! runs at most once: then the task ends in `error`. A group has no handler and begins with *its
//! subtasks run*. An external task is `executing` until a person decides.
//!
//! Every open task may also end in one of these ways, and its subtasks with it:
//!
//! ```text
//!      any open status
//!              +-- its expiration date comes ----------> expired
//!              +-- our code, the operator or its sender
//!              |   cancels it, or its tree ends -------> cancelled
//! ```
//!
//! A terminal status never changes. The end of a task goes up: its parent goes on with the next
//! child or ends too, and its sender gets an update, in which `expired`, `cancelled` and
//! `undeliverable` are `error`. `synchronized` has the life of a synchronized group.

mod batch_state;
mod ending;
mod event;
mod external;
mod local_task;
mod messages;
mod outbound_task;
mod ownership;
mod participant;
mod prefetch;
mod round;
mod run;
mod step;
mod step_context;
mod synchronized;
mod transition;
mod tree;

pub(crate) use batch_state::{BatchState, Changes, MissingRow, RowRequests, TaskEvent};
pub(crate) use event::{
    Answer, Delivery, DeliveryOutcome, Done, Event, MessageKind, Received, Update,
};
pub(crate) use prefetch::prefetch;
pub(crate) use run::{claim, runs_now};
pub(crate) use step::step;
pub(crate) use step_context::StepContext;

#[cfg(test)]
mod tests;
