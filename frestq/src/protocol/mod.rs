//! RESTQP on paper: the envelope, the internal actions, batches and extensions, without any I/O.
//!
//! May import `model`.

pub(crate) mod envelope;

/// The queue of the internal actions.
pub(crate) const INTERNAL_QUEUE: &str = "internal.frestq";
/// `frestq.update_task`
pub(crate) const UPDATE_TASK: &str = "frestq.update_task";
/// `frestq.cancel_task`: its sender does not want the task any more. Ours; originals don't know it.
pub(crate) const CANCEL_TASK: &str = "frestq.cancel_task";
/// `frestq.synchronize_task`
pub(crate) const SYNCHRONIZE_TASK: &str = "frestq.synchronize_task";
/// `frestq.confirm_task_reservation`
pub(crate) const CONFIRM_RESERVATION: &str = "frestq.confirm_task_reservation";
/// `frestq.execute_synchronized`
pub(crate) const EXECUTE_SYNCHRONIZED: &str = "frestq.execute_synchronized";
/// `frestq.cancel_reservation`: the director has ended the round. Ours.
pub(crate) const CANCEL_RESERVATION: &str = "frestq.cancel_reservation";
/// `frestq.refuse_reservation`: the performer can't reserve, or not any longer. Ours.
pub(crate) const REFUSE_RESERVATION: &str = "frestq.refuse_reservation";
/// `frestq.batch`
pub(crate) const BATCH: &str = "frestq.batch";

/// The header by which a peer says what it reads beyond the original protocol.
pub(crate) const EXTENSIONS_HEADER: &str = "restqp-extensions";
/// What we say in it.
pub(crate) const EXTENSIONS: &str = "batch, ext";

/// Whether a value of that header shows a peer that reads batches and `ext`.
pub(crate) fn shows_extensions(header: Option<&str>) -> bool {
    header.is_some_and(|names| {
        let has = |wanted| {
            names
                .split(',')
                .any(|name| name.trim().eq_ignore_ascii_case(wanted))
        };
        has("batch") && has("ext")
    })
}
