//! A record of `mail.incidents`, which is what notify delivers.

use alerting::{Change, Incident, IncidentId};
use jiff::Timestamp;
use kafka::OwnedRecord;
use record::{Reason, Stage, names};

/// The largest record that notify reads, in bytes. An incident with the greatest number of episodes has
/// a tenth of it.
const MAX_BYTES: usize = 512 << 10;

/// The header that a dead letter of notify has in addition: the name of the channel that did not accept
/// the incident. If it is sent back, only this channel gets it.
pub const CHANNEL: &str = "channel";

/// An incident after a change, as `monitor` published it.
#[derive(Debug, Clone)]
pub struct Received {
    /// The value of the record.
    pub incident: Incident,
    /// The event time at which the incident began.
    pub opened_at: Timestamp,
    /// The event time of the change.
    pub at: Timestamp,
    /// The record itself. It becomes a dead letter if a channel does not accept the incident.
    pub record: OwnedRecord,
}

/// The record is not a valid incident.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The value is larger than notify reads.
    #[error("the value has {0} bytes; notify reads at most {MAX_BYTES}")]
    TooLarge(usize),
    /// The value is not JSON.
    #[error("the value is not JSON: {0}")]
    NotJson(serde_json::Error),
    /// The value is JSON but does not have the fields of an incident.
    #[error("the value is not an incident: {0}")]
    WrongShape(serde_json::Error),
    /// A time is outside the years -9999 to 9999.
    #[error("the time {0}, in microseconds since 1970, is outside the years -9999 to 9999")]
    TimeOutOfRange(i64),
}

impl ReceiveError {
    /// Returns the reason for the dead letter.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::TooLarge(_) => Reason::TooLarge,
            Self::NotJson(_) => Reason::NotJson,
            Self::WrongShape(_) => Reason::WrongShape,
            Self::TimeOutOfRange(_) => Reason::TimeOutOfRange,
        }
    }
}

impl From<serde_json::Error> for ReceiveError {
    fn from(error: serde_json::Error) -> Self {
        if error.is_data() { Self::WrongShape(error) } else { Self::NotJson(error) }
    }
}

impl Received {
    /// Reads a record of `mail.incidents`. Returns `None` for a tombstone, by which the topic forgets an
    /// incident, and for a record that was redriven for another stage.
    ///
    /// # Errors
    /// Fails if the value is not a valid incident.
    pub fn read(record: &OwnedRecord) -> Result<Option<Self>, ReceiveError> {
        let is_for_another = record.headers.last().is_some_and(|(name, value)| {
            name == names::REDRIVEN && value.as_slice() != Stage::Notify.code().as_bytes()
        });
        let Some(value) = record.value.as_deref().filter(|_| !is_for_another) else {
            return Ok(None);
        };
        if value.len() > MAX_BYTES {
            return Err(ReceiveError::TooLarge(value.len()));
        }
        let incident: Incident = serde_json::from_slice(value)?;
        let time = |micros| {
            Timestamp::from_microsecond(micros).map_err(|_| ReceiveError::TimeOutOfRange(micros))
        };
        let (opened_at, at) = (time(incident.opened_at)?, time(incident.at)?);
        Ok(Some(Self { incident, opened_at, at, record: record.clone() }))
    }

    /// Returns the id of the incident. The changes of an incident are delivered in order.
    pub const fn id(&self) -> IncidentId {
        self.incident.id
    }

    /// Returns what has changed.
    pub const fn change(&self) -> Change {
        self.incident.change
    }

    /// Returns the size of the record's value.
    pub fn bytes(&self) -> usize {
        self.record.value.as_ref().map_or(0, Vec::len)
    }

    /// Returns the only channel that gets the record, if it is a dead letter that was sent back.
    pub fn only_channel(&self) -> Option<&str> {
        let is_redriven =
            self.record.headers.last().is_some_and(|(name, _)| name == names::REDRIVEN);
        let channel = self.record.header(CHANNEL).filter(|_| is_redriven)?;
        std::str::from_utf8(channel).ok()
    }
}

#[cfg(test)]
mod tests {
    use kafka::Offset;

    use super::*;
    use crate::sample;

    fn record(value: Option<Vec<u8>>) -> OwnedRecord {
        let (topic, key, headers) = ("mail.incidents".to_owned(), Vec::new(), Vec::new());
        OwnedRecord { topic, partition: 0, offset: Offset(1), key, value, headers }
    }

    #[test]
    fn an_invalid_record_has_a_reason() {
        let reason = |value: &str| {
            let read = Received::read(&record(Some(value.into())));
            read.map(|_| ()).map_err(|error| error.reason().code())
        };
        let good = sample::incident(Change::Opened, 1, "acme").to_string();
        assert_eq!(reason(&good), Ok(()));
        let at = format!("\"at\":{}", sample::START);
        assert!(good.contains(&at), "{good}");
        let late = good.replace(&at, &format!("\"at\":{}", i64::MAX));
        assert_eq!(reason(&late), Err("time_out_of_range"));
        assert_eq!(reason(r#"{"rule":"r"}"#), Err("wrong_shape"));
        assert_eq!(reason("not an incident"), Err("not_json"));
        assert_eq!(reason(&" ".repeat(MAX_BYTES + 1)), Err("too_large"));
    }

    #[test]
    fn tombstones_and_what_is_redriven_for_others_is_skipped() {
        assert!(Received::read(&record(None)).unwrap().is_none());
        let good = sample::incident(Change::Opened, 1, "acme").to_string().into_bytes();
        let redriven = |stage: &str| {
            let mut record = record(Some(good.clone()));
            record.headers = vec![
                (CHANNEL.to_owned(), b"hook".to_vec()),
                (names::REDRIVEN.to_owned(), stage.as_bytes().to_vec()),
            ];
            Received::read(&record).unwrap()
        };
        assert!(redriven("archive").is_none());
        assert_eq!(redriven("notify").unwrap().only_channel(), Some("hook"));
    }
}
