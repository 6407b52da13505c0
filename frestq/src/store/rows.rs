//! Rows, read the same way whichever database they come from.

use jiff::Timestamp;
use sqlx::{Decode, Row as _, Type};

use super::{Contact, Content, OutboxState, PeerHealth, PeerRow, Waiting, on_either};
use crate::model::{
    Direction, Fingerprint, InboxKey, Json, MessageId, MessageRecord, NewTask, NodeId, OnFailure,
    OutboxRow, PeerId, PeerUrl, Role, RoundMark, RunPhase, Status, TaskId, TaskKind, TaskRecord,
    TaskState,
    error::{Error, Result},
    null,
};

/// A row of either database.
pub(super) enum Row {
    #[cfg(feature = "sqlite")]
    Sqlite(sqlx::sqlite::SqliteRow),
    #[cfg(feature = "postgres")]
    Postgres(sqlx::postgres::PgRow),
}

/// A row of one database is one of either, and what a column of the one can hold has a name.
macro_rules! database {
    ($feature:literal, $database:ident, $row:ty, $column:ident) => {
        #[cfg(feature = $feature)]
        impl From<$row> for Row {
            fn from(row: $row) -> Self {
                Self::$database(row)
            }
        }

        #[cfg(feature = $feature)]
        pub(super) trait $column:
            for<'r> Decode<'r, sqlx::$database> + Type<sqlx::$database>
        {
        }

        #[cfg(feature = $feature)]
        impl<T> $column for T where
            T: for<'r> Decode<'r, sqlx::$database> + Type<sqlx::$database>
        {
        }

        #[cfg(not(feature = $feature))]
        pub(super) trait $column {}

        #[cfg(not(feature = $feature))]
        impl<T> $column for T {}
    };
}

database!("sqlite", Sqlite, sqlx::sqlite::SqliteRow, SqliteColumn);
database!("postgres", Postgres, sqlx::postgres::PgRow, PgColumn);

/// What a column of either database can hold.
pub(super) trait Column: SqliteColumn + PgColumn {}

impl<T: SqliteColumn + PgColumn> Column for T {}

impl Row {
    pub(super) fn get<T: Column>(&self, index: usize) -> Result<T> {
        Ok(on_either!(self, row => row.try_get(index)?))
    }

    /// How many columns it has.
    pub(super) fn width(&self) -> usize {
        on_either!(self, row => row.len())
    }

    fn text(&self, index: usize) -> Result<String> {
        self.get(index)
    }

    fn moment(&self, index: usize) -> Result<Timestamp> {
        moment(self.get(index)?)
    }

    fn moment_if_any(&self, index: usize) -> Result<Option<Timestamp>> {
        self.get::<Option<i64>>(index)?.map(moment).transpose()
    }

    /// JSON that we wrote; `null` where there is none.
    pub(super) fn json(&self, index: usize) -> Result<Json> {
        match self.get(index)? {
            Some(text) => Ok(serde_json::value::RawValue::from_string(text)?),
            None => Ok(null()),
        }
    }

    fn certificate(&self, index: usize) -> Result<Option<Fingerprint>> {
        let bytes: Option<Vec<u8>> = self.get(index)?;
        let Some(bytes) = bytes else {
            return Ok(None);
        };
        // A pin that can't be read must not become none.
        Fingerprint::from_bytes(&bytes).map(Some).ok_or_else(|| {
            Error::Invalid("the database holds a certificate's fingerprint that is none".into())
        })
    }

    /// A code of ours.
    fn code<T>(&self, index: usize, read: fn(i64) -> Option<T>, column: &str) -> Result<T> {
        let code = self.get(index)?;
        read(code).ok_or_else(|| {
            Error::Invalid(format!(
                "the database holds an unknown {column}: {code}; was it written by a newer version?"
            ))
        })
    }
}

/// A moment as the databases keep it.
fn moment(microseconds: i64) -> Result<Timestamp> {
    Timestamp::from_microsecond(microseconds).map_err(|_| {
        Error::Invalid(format!(
            "the database holds a moment out of range: {microseconds}"
        ))
    })
}

/// The columns of a [`TaskState`], in the order in which [`state`] reads them; then the rest of the
/// statement.
macro_rules! select_state {
    ($rest:literal) => {
        concat!(
            "SELECT t.seq, t.id, t.kind, t.role, t.peer, t.queue, t.action, t.status, t.attempt, ",
            "t.failures, t.epoch, t.owner, t.rev, t.run_at, t.expires_at, t.modified_at, ",
            "t.parent, t.ord, t.open_children, t.on_failure, t.moment, t.round, t.reserved, t.wake_at, t.pingback_at, ",
            "t.certificate, t.place, t.interrupted, t.at_most_once",
            $rest
        )
    };
}
pub(super) use select_state;

/// How many columns [`select_state!`] has: the place of the next one.
pub(super) const AFTER_STATE: usize = 29;

pub(super) fn state(row: &Row) -> Result<TaskState> {
    let kind = row.code(2, TaskKind::from_code, "kind")?;
    let (phase, holds_reservation) = TaskState::from_reserved_code(kind, row.get(22)?);
    Ok(TaskState {
        seq: row.get(0)?,
        id: row.text(1)?.into(),
        kind,
        role: row.code(3, Role::from_code, "role")?,
        peer: PeerId(row.get(4)?),
        queue: row.text(5)?.into(),
        action: row.text(6)?.into(),
        status: row.code(7, Status::from_code, "status")?,
        attempt: row.get(8)?,
        failures: row.get(9)?,
        epoch: row.get(10)?,
        owner: row.get::<Option<i64>>(11)?.map(NodeId),
        rev: row.get(12)?,
        run_at: row.moment_if_any(13)?,
        expires_at: row.moment_if_any(14)?,
        modified_at: row.moment(15)?,
        parent: row.get::<Option<String>>(16)?.map(TaskId::from),
        order: row.get(17)?,
        open_children: row.get(18)?,
        on_failure: row.code(19, OnFailure::from_code, "on_failure")?,
        moment: row.code(20, RunPhase::from_code, "moment")?,
        round: RoundMark::from_code(row.get(21)?),
        phase,
        holds_reservation,
        wake_at: row.moment_if_any(23)?,
        report_at: row.moment_if_any(24)?,
        certificate: row.certificate(25)?,
        place: row.get(26)?,
        interrupted: row.get(27)?,
        at_most_once: row.get::<i64>(28)? != 0,
    })
}

/// A task that waits for a slot, with its payloads behind the columns of its state.
pub(super) fn waiting(row: &Row) -> Result<Waiting> {
    Ok(Waiting {
        state: state(row)?,
        input: row.json(AFTER_STATE)?,
        output: row.json(AFTER_STATE + 1)?,
        reservation: row.json(AFTER_STATE + 2)?,
    })
}

/// A task as it was stored, with what never changes of it behind the columns of its state.
pub(super) fn stored(row: &Row) -> Result<NewTask> {
    Ok(NewTask {
        state: state(row)?,
        input: row.json(AFTER_STATE)?,
        label: row.get::<Option<String>>(AFTER_STATE + 1)?.map(Into::into),
        info: row.get::<Option<String>>(AFTER_STATE + 2)?.map(Into::into),
        pingback_at: row.moment_if_any(AFTER_STATE + 3)?,
        created_at: row.moment(AFTER_STATE + 4)?,
        priority: row.get(AFTER_STATE + 5)?,
        unique_key: row.get::<Option<String>>(AFTER_STATE + 6)?.map(Into::into),
    })
}

/// What never changes of a task that is to be sent now.
pub(super) fn content(row: &Row) -> Result<(TaskId, Content)> {
    let content = Content {
        input: row.json(1)?,
        info: row.get::<Option<String>>(2)?.map(Into::into),
        pingback_at: row.moment_if_any(3)?,
        output: row.json(4)?,
        reservation: row.json(5)?,
    };
    Ok((row.text(0)?.into(), content))
}

/// `peer, message, hash`
pub(super) fn accepted(row: &Row) -> Result<(InboxKey, [u8; 16])> {
    let key = InboxKey {
        peer: PeerId(row.get(0)?),
        message: row.text(1)?.into(),
    };
    let hash: Vec<u8> = row.get(2)?;
    // A hash of another length equals none of ours.
    Ok((key, hash.try_into().unwrap_or_default()))
}

/// `unique_key, id`
pub(super) fn unique(row: &Row) -> Result<(Box<str>, TaskId)> {
    Ok((row.text(0)?.into(), row.text(1)?.into()))
}

/// The place in the outbox that a new message was given.
pub(super) fn place(row: &Row) -> Result<(MessageId, i64)> {
    Ok((row.text(0)?.into(), row.get(1)?))
}

/// The columns of a [`PeerRow`], in the order in which [`peer`] reads them.
macro_rules! peer_columns {
    () => {
        "id, url, extensions, failures, probe_at, last_error, name, heard_at, answered_at, former_url"
    };
}
pub(super) use peer_columns;

pub(super) fn peer(row: &Row) -> Result<PeerRow> {
    Ok(PeerRow {
        id: PeerId(row.get(0)?),
        url: PeerUrl::trusted(row.get(1)?),
        health: PeerHealth {
            extensions: row.get(2)?,
            failures: row.get(3)?,
            probe_at: row.moment_if_any(4)?,
            last_error: row.get(5)?,
        },
        name: row.get(6)?,
        contact: Contact {
            heard: row.moment_if_any(7)?,
            answered: row.moment_if_any(8)?,
        },
        former_url: row.get::<Option<String>>(9)?.map(PeerUrl::trusted),
    })
}

/// `peer, count`
pub(super) fn count(row: &Row) -> Result<(PeerId, i64)> {
    Ok((PeerId(row.get(0)?), row.get(1)?))
}

/// `peer, moment`
pub(super) fn backlog(row: &Row) -> Result<(PeerId, Timestamp)> {
    Ok((PeerId(row.get(0)?), row.moment(1)?))
}

/// The moment alone.
pub(super) fn next(row: &Row) -> Result<Option<Timestamp>> {
    row.moment_if_any(0)
}

/// `id, owner, queue, action`
pub(super) fn orphan(row: &Row) -> Result<(TaskId, NodeId, String, String)> {
    Ok((
        row.text(0)?.into(),
        NodeId(row.get(1)?),
        row.get(2)?,
        row.get(3)?,
    ))
}

pub(super) fn outbox(row: &Row) -> Result<OutboxRow> {
    Ok(OutboxRow {
        seq: row.get(0)?,
        peer: PeerId(row.get(1)?),
        message: row.text(2)?.into(),
        queue: row.text(3)?.into(),
        action: row.text(4)?.into(),
        task: row.text(5)?.into(),
        carries_task: row.get(6)?,
        body: row.text(7)?.into(),
        expires_at: row.moment_if_any(8)?,
        attempts: row.get(9)?,
        due_at: row.moment(10)?,
        created_at: row.moment(11)?,
        moot: row.get(12)?,
        pin: row.certificate(13)?,
    })
}

pub(super) fn task(row: &Row) -> Result<TaskRecord> {
    let role = row.code(6, Role::from_code, "role")?;
    let (peer, here) = (PeerUrl::trusted(row.get(7)?), PeerUrl::trusted(row.get(8)?));
    let certificate = row
        .certificate(24)?
        .map(|certificate| certificate.to_string());
    let (sender_ssl_cert, receiver_ssl_cert) = match role {
        Role::Sent => (None, certificate),
        _ => (certificate, None),
    };
    let (sender_url, receiver_url) = match role {
        Role::Sent => (here, peer),
        Role::Received => (peer, here),
        Role::Local => (here.clone(), here),
    };
    Ok(TaskRecord {
        id: row.text(0)?.into(),
        task_type: row.code(1, TaskKind::from_code, "kind")?,
        action: row.get(2)?,
        queue_name: row.get(3)?,
        status: row.code(4, Status::from_code, "status")?,
        label: row.get(5)?,
        order: row
            .get::<Option<String>>(20)?
            .is_some()
            .then(|| row.get(19))
            .transpose()?,
        parent_id: row.get::<Option<String>>(20)?.map(TaskId::from),
        sender_url,
        receiver_url,
        sender_ssl_cert,
        receiver_ssl_cert,
        is_received: role == Role::Received,
        is_local: role == Role::Local,
        created_date: row.moment(9)?,
        last_modified_date: row.moment(10)?,
        input_data: row.json(11)?,
        output_data: row.json(12)?,
        reservation_data: row.json(21)?,
        progress: row.json(22)?,
        pingback_date: row.moment_if_any(13)?,
        expiration_date: row.moment_if_any(14)?,
        info: row.get(15)?,
        attempt: row.get(16)?,
        failures: row.get(17)?,
        run_date: row.moment_if_any(18)?,
        pruned_date: row.moment_if_any(23)?,
    })
}

pub(super) fn message(row: &Row) -> Result<MessageRecord> {
    let is_received = row.get::<i64>(1)? != 0;
    let (peer, here) = (PeerUrl::trusted(row.get(4)?), PeerUrl::trusted(row.get(5)?));
    let (direction, sender_url, receiver_url, input_data) = if is_received {
        (Direction::In, peer, here, row.json(7)?)
    } else {
        (Direction::Out, here, peer, payload(&row.json(7)?))
    };
    Ok(MessageRecord {
        id: MessageId::from(row.text(0)?),
        direction,
        action: row.get(2)?,
        queue_name: row.get(3)?,
        sender_url,
        receiver_url,
        is_received,
        task_id: row.get::<Option<String>>(6)?.map(TaskId::from),
        input_data,
        output_status: row.get(8)?,
        created_date: row.moment(9)?,
        state: OutboxState::word(row.get(10)?).to_owned(),
        attempts: row.get(11)?,
        next_attempt_date: row.moment_if_any(12)?,
        last_error: row.get(13)?,
    })
}

/// The payload in the body of a sent message. Not left to the databases: one would change its
/// spaces, the other refuses texts with `\u0000`.
fn payload(body: &Json) -> Json {
    #[derive(serde::Deserialize)]
    struct Envelope {
        data: Option<Json>,
    }
    serde_json::from_str::<Envelope>(body.get())
        .ok()
        .and_then(|envelope| envelope.data)
        .unwrap_or_else(null)
}
