use serde::{Deserialize, Serialize};

use crate::IncidentId;

/// What a person does with an incident. A record of `mail.alerts` with the key `action`.
///
/// In JSON the field `action` is the name of the action, next to its fields:
/// `{"action":"snooze","incident":"…","by":"ada","until":1700000000000000}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// Says that a person has seen the incident.
    Acknowledge {
        /// The incident.
        incident: IncidentId,
        /// Who does it.
        by: String,
    },
    /// Sends no notification before a time. If the severity rises, the snooze ends.
    Snooze {
        /// The incident.
        incident: IncidentId,
        /// Who does it.
        by: String,
        /// The end, UTC microseconds; at most [`Action::MAX_SNOOZE`] ahead. A time that has passed ends
        /// an earlier snooze.
        until: i64,
    },
    /// Names the person who works on the incident.
    Assign {
        /// The incident.
        incident: IncidentId,
        /// Who does it.
        by: String,
        /// Who works on it.
        to: String,
    },
    /// Says whether the page was right. This is also possible after the incident is over.
    Judge {
        /// The incident.
        incident: IncidentId,
        /// Who does it.
        by: String,
        /// Whether the page was right.
        judgement: Judgement,
    },
    /// Ends the incident. Its episodes open another one only if their severity rises.
    Close {
        /// The incident.
        incident: IncidentId,
        /// Who does it.
        by: String,
    },
    /// Announces a send of which warnings are expected. Until its end, people are notified about the
    /// source only if the severity is page.
    PlanSend {
        /// Who does it.
        by: String,
        /// Provider and source, such as `sendgrid/acme`.
        source: String,
        /// The campaign. If there is one, this applies only to incidents that it causes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        campaign: Option<String>,
        /// The beginning, UTC microseconds.
        from: i64,
        /// The end, in the same unit; at most [`Action::MAX_SNOOZE`] ahead.
        until: i64,
    },
}

/// Whether a page was right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Judgement {
    /// There was something to do.
    True,
    /// There was nothing to do.
    False,
    /// Another page was about the same.
    Duplicate,
}

impl Judgement {
    /// Returns the name, as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "true",
            Self::False => "false",
            Self::Duplicate => "duplicate",
        }
    }
}

/// Why an action has no effect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ActionError {
    /// There is no such incident, or it was forgotten.
    #[error("no incident has the id {0}; `mailpulse alerts ls` lists those that are known")]
    UnknownIncident(IncidentId),
    /// The incident is over.
    #[error("incident {0} is over; it can only be judged")]
    Ended(IncidentId),
    /// A name or a text is too long.
    #[error("`{field}` has {characters} characters; at most {max} are allowed", max = Action::MAX_TEXT)]
    TooLong {
        /// The field.
        field: &'static str,
        /// Its length.
        characters: usize,
    },
    /// A name or a text is empty.
    #[error("`{0}` is empty; give a name")]
    Empty(&'static str),
    /// A time is too far ahead, or a send ends before it begins.
    #[error("`until` must be after the beginning, and at most 30 days ahead")]
    WrongTime,
    /// There are too many planned sends.
    #[error("there are already {max} planned sends; wait until one is over", max = Action::MAX_PLANS)]
    TooManyPlans,
}

impl Action {
    /// The key of an action in `mail.alerts`.
    pub const KEY: &[u8] = b"action";
    /// The greatest number of characters of a name.
    pub const MAX_TEXT: usize = 200;
    /// How far ahead a snooze or a planned send can end, in microseconds: 30 days.
    pub const MAX_SNOOZE: i64 = 30 * 24 * 3600 * 1_000_000;
    /// The greatest number of planned sends that are not over.
    pub const MAX_PLANS: usize = 500;

    /// Checks the texts and times.
    pub(super) fn check(&self, now: i64) -> Result<(), ActionError> {
        let texts: &[(&'static str, &String)] = match self {
            Self::Acknowledge { by, .. }
            | Self::Snooze { by, .. }
            | Self::Judge { by, .. }
            | Self::Close { by, .. }
            | Self::PlanSend { by, campaign: None, source: _, .. } => &[("by", by)],
            Self::Assign { by, to, .. } => &[("by", by), ("to", to)],
            Self::PlanSend { by, campaign: Some(campaign), .. } => {
                &[("by", by), ("campaign", campaign)]
            }
        };
        let source = match self {
            Self::PlanSend { source, .. } => Some(("source", source)),
            _ => None,
        };
        for (field, text) in texts.iter().copied().chain(source) {
            let characters = text.chars().count();
            match characters {
                0 => return Err(ActionError::Empty(field)),
                1..=Self::MAX_TEXT => {}
                _ => return Err(ActionError::TooLong { field, characters }),
            }
        }
        let latest = now.saturating_add(Self::MAX_SNOOZE);
        let is_wrong = match *self {
            Self::Snooze { until, .. } => until > latest,
            Self::PlanSend { from, until, .. } => until > latest || until <= from.max(now),
            _ => false,
        };
        if is_wrong { Err(ActionError::WrongTime) } else { Ok(()) }
    }
}
