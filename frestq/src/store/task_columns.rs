//! The one definition of a task's columns. What is read of a task's row, what both databases
//! write, and in which order, is made from it; a new column is a line here, a field, and a
//! migration.

use super::{fields::Fields, loads::Content};
use crate::model::{
    Fingerprint, Json, NewTask, NodeId, OnFailure, PeerId, Role, RoundMark, RunPhase, Status,
    TaskId, TaskKind, TaskState, error::Result,
};
use jiff::Timestamp;

/// A column of `tasks`.
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    written: Written,
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Integer,
    Text,
    /// Text for people, which may hold a character that Postgres can't store.
    Prose,
    Bytes,
}

/// A value for a column.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    Integer(Option<i64>),
    Text(Option<&'a str>),
    Bytes(Option<&'a [u8]>),
}

impl<'a> Value<'a> {
    /// The number, in a column of numbers.
    pub(super) fn integer(self) -> Option<i64> {
        match self {
            Value::Integer(number) => number,
            Value::Text(_) | Value::Bytes(_) => None,
        }
    }

    /// The text, in a column of texts.
    pub(super) fn text(self) -> Option<&'a str> {
        match self {
            Value::Text(text) => text,
            Value::Integer(_) | Value::Bytes(_) => None,
        }
    }

    /// The bytes, in a column of bytes.
    pub(super) fn bytes(self) -> Option<&'a [u8]> {
        match self {
            Value::Bytes(bytes) => bytes,
            Value::Integer(_) | Value::Text(_) => None,
        }
    }
}

/// When a column is written, and with what.
enum Written {
    /// By the database, or by statements of its own.
    Elsewhere,
    /// With the task's creation.
    Once(for<'a> fn(&'a NewTask, &'a TaskState) -> Value<'a>),
    /// With the creation, and with each change.
    Always(for<'a> fn(&'a TaskState) -> Value<'a>),
    /// With the creation, and with each change that has a new output.
    Output(for<'a> fn(Option<&'a Json>) -> Value<'a>),
}

/// A created task: what never changes of it, and its state and output at the end of the
/// transaction.
pub(super) type Created<'a> = (&'a NewTask, &'a TaskState, Option<&'a Json>);
/// A changed task.
pub(super) type Changed<'a> = (&'a TaskState, Option<&'a Json>);

impl Column {
    /// Its value for a new row; `None`: the `INSERT` leaves it out.
    pub(super) fn created<'a>(&self, (new, state, output): Created<'a>) -> Option<Value<'a>> {
        match self.written {
            Written::Once(value) => Some(value(new, state)),
            _ => self.changed((state, output)),
        }
    }

    /// Its value for a changed row; `None`: the `UPDATE` leaves it out.
    pub(super) fn changed<'a>(&self, (state, output): Changed<'a>) -> Option<Value<'a>> {
        match self.written {
            Written::Elsewhere | Written::Once(_) => None,
            Written::Always(value) => Some(value(state)),
            Written::Output(value) => Some(value(output)),
        }
    }

    /// Whether a change without a value keeps the one that is there.
    pub(super) fn is_kept(&self) -> bool {
        matches!(self.written, Written::Output(_))
    }
}

/// The columns of an `INSERT`, in the order of its values.
pub(super) fn created() -> impl Iterator<Item = &'static Column> {
    let all = COLUMNS.iter();
    all.filter(|column| !matches!(column.written, Written::Elsewhere))
}

/// The columns of an `UPDATE`, in the order of its values.
pub(super) fn changed() -> impl Iterator<Item = &'static Column> {
    created().filter(|column| !matches!(column.written, Written::Once(_)))
}

/// A line is: the column, what it holds, when it is written and with what; then which field of a
/// [`TaskState`], of a [`NewTask`] and of a [`Content`] it is, each with the way in which it is
/// read.
macro_rules! task_columns {
    ($($column:ident: $kind:ident $written:ident $(($value:expr))? {
        $(state $($state:ident)and+: $state_read:ident($($state_how:expr)?),)?
        $(new $new:ident: $new_read:ident(),)?
        $(content $content:ident: $content_read:ident(),)?
    })+) => {
        const COLUMNS: &[Column] = &[$(Column {
            name: stringify!($column),
            kind: Kind::$kind,
            written: Written::$written $(($value))?,
        }),+];

        /// The columns that [`state`] reads, of a task `t`.
        pub(super) const STATE: &str =
            without_comma(concat!($($($(nothing!($state),)+ ", t.", stringify!($column),)?)+));

        /// The columns that [`new`] reads behind those of the state.
        pub(super) const NEW: &str =
            without_comma(concat!($($(nothing!($new), ", t.", stringify!($column),)?)+));

        /// The columns that [`content`] reads.
        pub(super) const CONTENT: &str =
            without_comma(concat!($($(nothing!($content), ", t.", stringify!($column),)?)+));

        /// Reads [`STATE`].
        pub(super) fn state(row: &mut Fields<'_>) -> Result<TaskState> {
            $($(
                #[allow(unused_parens, reason = "most columns are one field")]
                let ($($state),+) = row.$state_read($($state_how)?)?;
            )?)+
            Ok(TaskState { $($($($state,)+)?)+ })
        }

        /// Reads [`NEW`] behind a state.
        pub(super) fn new(state: TaskState, row: &mut Fields<'_>) -> Result<NewTask> {
            Ok(NewTask { state, $($($new: row.$new_read()?,)?)+ })
        }

        /// Reads [`CONTENT`].
        pub(super) fn content(row: &mut Fields<'_>) -> Result<Content> {
            Ok(Content { $($($content: row.$content_read()?,)?)+ })
        }
    };
}

/// Takes the place of a name that only says whether something is repeated.
macro_rules! nothing {
    ($name:ident) => {
        ""
    };
}

/// A list without the comma before its first column.
const fn without_comma(list: &'static str) -> &'static str {
    list.split_at(", ".len()).1
}

task_columns! {
    seq: Integer Elsewhere { state seq: get(), }
    id: Text Once(|_, task| text(task.id.as_str())) { state id: text(), }
    kind: Integer Once(|_, task| integer(task.kind.code())) { state kind: code(TaskKind::from_code), }
    role: Integer Once(|_, task| integer(task.role.code())) { state role: code(Role::from_code), }
    peer: Integer Once(|_, task| integer(task.peer.0)) { state peer: number(PeerId), }
    queue: Text Once(|_, task| text(&task.queue)) { state queue: text(), }
    action: Text Once(|_, task| text(&task.action)) { state action: text(), }
    trace: Text Once(|_, task| Value::Text(task.trace.as_deref())) {
        state trace: text_if_any(),
    }
    status: Integer Always(|task| integer(task.status.code())) {
        state status: code(Status::from_code),
    }
    attempt: Integer Always(|task| integer(task.attempt)) { state attempt: get(), }
    failures: Integer Always(|task| integer(task.failures)) { state failures: get(), }
    epoch: Integer Always(|task| integer(task.epoch)) { state epoch: get(), }
    owner: Integer Always(|task| Value::Integer(task.owner.map(|node| node.0))) {
        state owner: number_if_any(NodeId),
    }
    rev: Integer Always(|task| integer(task.rev)) { state rev: get(), }
    run_at: Integer Always(|task| date(task.run_at)) { state run_at: at_if_any(), }
    expires_at: Integer Once(|_, task| date(task.expires_at)) { state expires_at: at_if_any(), }
    created_at: Integer Once(|new, _| date(Some(new.created_at))) { new created_at: at(), }
    modified_at: Integer Always(|task| date(Some(task.modified_at))) { state modified_at: at(), }
    parent: Text Once(|_, task| Value::Text(task.parent.as_ref().map(TaskId::as_str))) {
        state parent: text_if_any(),
    }
    ord: Integer Once(|_, task| integer(task.order)) { state order: get(), }
    place: Integer Always(|task| integer(task.place)) { state place: get(), }
    open_children: Integer Always(|task| integer(task.open_children)) {
        state open_children: get(),
    }
    on_failure: Integer Always(|task| integer(task.on_failure.code())) {
        state on_failure: code(OnFailure::from_code),
    }
    at_most_once: Integer Once(|_, task| integer(i64::from(task.at_most_once))) {
        state at_most_once: flag(),
    }
    moment: Integer Always(|task| integer(task.moment.map_or(RunPhase::NONE, RunPhase::code))) {
        state moment: code(moment),
    }
    round: Integer Always(|task| integer(task.round.code())) { state round: number(RoundMark::from_code), }
    reserved: Integer Always(|task| integer(task.reserved_code())) {
        state phase and holds_reservation: number(|code| TaskState::from_reserved_code(kind, code)),
    }
    wake_at: Integer Always(|task| date(task.wake_at)) { state wake_at: at_if_any(), }
    interrupted: Integer Always(|task| integer(task.interrupted)) { state interrupted: get(), }
    certificate: Bytes Once(|_, task| {
        Value::Bytes(task.certificate.as_ref().map(Fingerprint::bytes))
    }) { state certificate: fingerprint(), }
    pingback_at: Integer Once(|new, _| date(new.pingback_at)) {
        state report_at: at_if_any(), new pingback_at: at_if_any(), content pingback_at: at_if_any(),
    }
    label: Prose Once(|new, _| Value::Text(new.label.as_deref())) { new label: text_if_any(), }
    info: Prose Once(|new, _| Value::Text(new.info.as_deref())) {
        new info: text_if_any(), content info: text_if_any(),
    }
    priority: Integer Once(|new, _| integer(new.priority)) { new priority: get(), }
    unique_key: Text Once(|new, _| Value::Text(new.unique_key.as_deref())) {
        new unique_key: text_if_any(),
    }
    input: Text Once(|new, _| text(new.input.get())) { new input: json(), content input: json(), }
    first_input: Text Elsewhere {}
    output: Text Output(|output| Value::Text(output.map(|output| output.get()))) {
        content output: json(),
    }
    reservation: Text Elsewhere { content reservation: json(), }
    progress: Text Elsewhere {}
    pruned_at: Integer Elsewhere {}
}

const fn integer<'a>(value: i64) -> Value<'a> {
    Value::Integer(Some(value))
}

const fn text(value: &str) -> Value<'_> {
    Value::Text(Some(value))
}

fn date<'a>(at: Option<Timestamp>) -> Value<'a> {
    Value::Integer(at.map(|at| at.as_microsecond()))
}

fn moment(code: i64) -> Option<Option<RunPhase>> {
    match code {
        RunPhase::NONE => Some(None),
        code => RunPhase::from_code(code).map(Some),
    }
}
