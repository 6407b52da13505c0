//! The data of internal actions, and of batches.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

#[cfg(doc)]
use super::action::InternalAction;
use super::fields::{date, members, optional, present, required};
use crate::model::{Json, Status, TaskId, null};

/// The data of [`InternalAction::UpdateTask`].
#[derive(Debug)]
pub(crate) struct UpdateData {
    pub(crate) status: Status,
    pub(crate) output: Json,
}

impl UpdateData {
    pub(crate) fn parse(data: &RawValue) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Fields<'a> {
            #[serde(borrow)]
            status: Option<&'a RawValue>,
            #[serde(borrow)]
            output_data: Option<&'a RawValue>,
        }
        let members: Fields<'_> = members(data)?;
        let status = required(members.status, "data.status", 64)?;
        let status = status
            .parse::<Status>()
            .ok()
            .filter(|status| status.on_the_wire() == *status)
            .ok_or_else(|| {
                format!("field `data.status`: {status:?} is no status of a task on the wire")
            })?;
        Ok(Self {
            status,
            output: members.output_data.map_or_else(null, ToOwned::to_owned),
        })
    }
}

/// The data of [`InternalAction::SynchronizeTask`] and, without the dates, of
/// [`InternalAction::ExecuteSynchronized`].
#[derive(Debug)]
pub(crate) struct PerformData {
    pub(crate) task_id: Option<TaskId>,
    pub(crate) queue: String,
    pub(crate) action: String,
    pub(crate) input: Json,
    pub(crate) pingback_date: Option<Timestamp>,
    pub(crate) expiration_date: Option<Timestamp>,
}

impl PerformData {
    pub(crate) fn parse(data: &RawValue) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Fields<'a> {
            #[serde(borrow)]
            task_id: Option<&'a RawValue>,
            #[serde(borrow)]
            action: Option<&'a RawValue>,
            #[serde(borrow)]
            queue_name: Option<&'a RawValue>,
            #[serde(borrow)]
            input_data: Option<&'a RawValue>,
            #[serde(borrow)]
            pingback_date: Option<&'a RawValue>,
            #[serde(borrow)]
            expiration_date: Option<&'a RawValue>,
        }
        let members: Fields<'_> = members(data)?;
        let task_id = optional(members.task_id, "data.task_id", 128)?;
        if task_id.as_deref() == Some("") {
            return Err("field `data.task_id` is empty".into());
        }
        Ok(Self {
            task_id: task_id.map(|id| id.into_owned().into()),
            queue: required(members.queue_name, "data.queue_name", 1024)?.into_owned(),
            action: required(members.action, "data.action", 1024)?.into_owned(),
            input: members.input_data.map_or_else(null, ToOwned::to_owned),
            pingback_date: date(members.pingback_date, "data.pingback_date")?,
            expiration_date: date(members.expiration_date, "data.expiration_date")?,
        })
    }
}

/// The data of [`InternalAction::ConfirmReservation`].
#[derive(Debug)]
pub(crate) struct ConfirmData {
    pub(crate) reservation: Json,
    pub(crate) seconds: Option<u64>,
}

impl ConfirmData {
    pub(crate) fn parse(data: &RawValue) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Fields<'a> {
            #[serde(borrow)]
            reservation_data: Option<&'a RawValue>,
            #[serde(borrow)]
            reservation_expiration_seconds: Option<&'a RawValue>,
        }
        let members: Fields<'_> = members(data)?;
        let seconds = present(members.reservation_expiration_seconds).map(|seconds| {
            serde_json::from_str::<f64>(seconds.get())
                .ok()
                .filter(|seconds| *seconds >= 0.0)
                .map(|seconds| seconds as u64)
                .ok_or("field `data.reservation_expiration_seconds` must be a number from 0")
        });
        Ok(Self {
            reservation: members
                .reservation_data
                .map_or_else(null, ToOwned::to_owned),
            seconds: seconds.transpose()?,
        })
    }
}

/// One message of a batch: its queue, and its envelope as text.
#[derive(Debug, Deserialize)]
pub(crate) struct BatchEntry {
    pub(crate) queue: String,
    pub(crate) message: Box<RawValue>,
}

/// Reads the data of `frestq.batch`.
pub(crate) fn parse_batch(data: &RawValue) -> Result<Vec<BatchEntry>, String> {
    serde_json::from_str(data.get())
        .map_err(|e| format!("field `data` must be a list of {{\"queue\", \"message\"}}: {e}"))
}

/// The answer to one message of a batch.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct BatchAnswer {
    pub(crate) message_id: String,
    pub(crate) status: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) message: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_statuses_of_the_wire_are_read_from_it() {
        let parse = |status: &str| {
            let data = RawValue::from_string(format!(r#"{{"status":"{status}","output_data":1}}"#))
                .unwrap();
            UpdateData::parse(&data)
        };
        assert_eq!(parse("finished").unwrap().status, Status::Finished);
        assert!(parse("cancelled").unwrap_err().contains("data.status"));
        assert!(parse("done").is_err());
    }
}
