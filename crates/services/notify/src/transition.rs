//! What is delivered: one transition of one alert episode.

use jiff::Timestamp;
use window::{Alert, EpisodeId, Severity, State};

/// What happened to an episode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// It began.
    Fired,
    /// It became critical after it had fired as a warning.
    Escalated,
    /// It is over.
    Resolved,
}

impl Step {
    /// The stable name: webhook type, metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fired => "fired",
            Self::Escalated => "escalated",
            Self::Resolved => "resolved",
        }
    }
}

/// A transition as `monitor` published it.
#[derive(Debug, Clone, PartialEq)]
pub struct Transition {
    /// The value of the record.
    pub alert: Alert,
    /// When the episode began.
    pub started_at: Timestamp,
    /// When this happened, in event time.
    pub at: Timestamp,
}

/// The record is not an alert.
#[derive(Debug, thiserror::Error)]
pub enum TransitionError {
    /// A tombstone; nobody should write one.
    #[error("the record has no value")]
    Empty,
    /// Not JSON, or not of an alert's shape.
    #[error("the record is not an alert: {0}")]
    NotAnAlert(#[from] serde_json::Error),
    /// A time beyond what calendars hold.
    #[error("the time {0} is out of range")]
    BadTime(i64),
}

impl Transition {
    /// Reads a record's value.
    ///
    /// # Errors
    /// When it is not an alert.
    pub fn read(value: Option<&[u8]>) -> Result<Self, TransitionError> {
        let alert: Alert = serde_json::from_slice(value.ok_or(TransitionError::Empty)?)?;
        let time = |micros| {
            Timestamp::from_microsecond(micros).map_err(|_| TransitionError::BadTime(micros))
        };
        Ok(Self { started_at: time(alert.started_at)?, at: time(alert.at)?, alert })
    }

    /// The episode: transitions of one are delivered in order.
    pub const fn episode(&self) -> EpisodeId {
        self.alert.episode_id
    }

    /// What happened. An episode that is critical from the start fires; one that becomes critical
    /// does so later than it started.
    pub const fn step(&self) -> Step {
        match (self.alert.state, self.alert.severity) {
            (State::Resolved, _) => Step::Resolved,
            (State::Firing, Severity::Critical) if self.alert.at > self.alert.started_at => {
                Step::Escalated
            }
            (State::Firing, _) => Step::Fired,
        }
    }
}
