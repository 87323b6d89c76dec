//! A transition of an episode, which is what notify delivers.

use jiff::Timestamp;
use record::Reason;
use window::{Alert, EpisodeId, Severity, State};

/// What a transition changes in an episode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Change {
    /// The episode began.
    Fired,
    /// The episode became critical after it had fired as a warning.
    Escalated,
    /// The episode is over.
    Resolved,
}

impl Change {
    /// Returns the stable name, which is part of the type and the id of a webhook message.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fired => "fired",
            Self::Escalated => "escalated",
            Self::Resolved => "resolved",
        }
    }
}

/// A transition that `monitor` published.
#[derive(Debug, Clone, PartialEq)]
pub struct Transition {
    /// The value of the record on `mail.alerts`.
    pub alert: Alert,
    /// The event time at which the episode began.
    pub started_at: Timestamp,
    /// The event time of the transition.
    pub at: Timestamp,
}

/// The record is not a valid alert.
#[derive(Debug, thiserror::Error)]
pub enum TransitionError {
    /// The record is a tombstone, which `monitor` never writes.
    #[error("the record has no value")]
    Empty,
    /// The value is not JSON.
    #[error("the value is not JSON: {0}")]
    NotJson(serde_json::Error),
    /// The value is JSON but does not have the fields of an alert.
    #[error("the value is not an alert: {0}")]
    WrongShape(serde_json::Error),
    /// A time is outside the years -9999 to 9999.
    #[error("the time {0}, in microseconds since 1970, is outside the years -9999 to 9999")]
    TimeOutOfRange(i64),
}

impl TransitionError {
    /// Returns the reason for the dead letter.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Empty | Self::NotJson(_) => Reason::NotJson,
            Self::WrongShape(_) => Reason::WrongShape,
            Self::TimeOutOfRange(_) => Reason::TimeOutOfRange,
        }
    }
}

impl From<serde_json::Error> for TransitionError {
    fn from(error: serde_json::Error) -> Self {
        if error.is_data() { Self::WrongShape(error) } else { Self::NotJson(error) }
    }
}

impl Transition {
    /// Reads the value of a record on `mail.alerts`.
    ///
    /// # Errors
    /// Fails if the value is not a valid alert.
    pub fn read(value: Option<&[u8]>) -> Result<Self, TransitionError> {
        let alert: Alert = serde_json::from_slice(value.ok_or(TransitionError::Empty)?)?;
        let time = |micros| {
            Timestamp::from_microsecond(micros).map_err(|_| TransitionError::TimeOutOfRange(micros))
        };
        Ok(Self { started_at: time(alert.started_at)?, at: time(alert.at)?, alert })
    }

    /// Returns the episode id. The transitions of an episode are delivered in order.
    pub const fn episode(&self) -> EpisodeId {
        self.alert.episode_id
    }

    /// Returns what the transition changes. An episode that is critical from the start fires; an
    /// episode that becomes critical does so after its start.
    pub const fn change(&self) -> Change {
        match (self.alert.state, self.alert.severity) {
            (State::Resolved, _) => Change::Resolved,
            (State::Firing, Severity::Critical) if self.alert.at > self.alert.started_at => {
                Change::Escalated
            }
            (State::Firing, _) => Change::Fired,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_record_has_a_reason() {
        let alert = r#"{"episode_id":"000102030405060708090a0b0c0d0e0f","rule":"r","scope":"source","provider":"ses","source":"acme","severity":"warning","state":"firing","metric":"bounce","width":"5m","value":0.075,"threshold":0.05,"numerator":15,"volume":200,"started_at":0,"at":AT,"runbook":"","summary":""}"#;
        let reason = |value: Option<&str>| {
            Transition::read(value.map(str::as_bytes)).map_err(|error| error.reason().code())
        };
        assert!(reason(Some(&alert.replace("AT", "1"))).is_ok());
        let too_late = alert.replace("AT", &i64::MAX.to_string());
        assert_eq!(reason(Some(&too_late)).unwrap_err(), "time_out_of_range");
        assert_eq!(reason(Some(r#"{"rule":"r"}"#)).unwrap_err(), "wrong_shape");
        assert_eq!(reason(Some("not an alert")).unwrap_err(), "not_json");
        assert_eq!(reason(None).unwrap_err(), "not_json");
    }
}
