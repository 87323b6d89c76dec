//! What started a rule.

use event::EventId;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{Facts, IncidentFacts};

/// What started a rule: the field `event` or `incident` of intents and actions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Subject {
    /// An event of a recipient.
    #[serde(rename = "event")]
    Event(Facts),
    /// A change of an incident.
    #[serde(rename = "incident")]
    Incident(IncidentFacts),
}

impl Subject {
    /// The id that the ids of intents and actions follow from: that of the event, or of the transition.
    pub fn id(&self) -> EventId {
        match self {
            Self::Event(event) => event.event_id,
            Self::Incident(incident) => incident.transition_id(),
        }
    }

    /// The event.
    pub const fn event(&self) -> Option<&Facts> {
        match self {
            Self::Event(event) => Some(event),
            Self::Incident(_) => None,
        }
    }

    /// The recipient of the event. An incident has none.
    pub fn recipient(&self) -> Option<&str> {
        self.event().map(|event| event.recipient.as_str())
    }

    /// The key of actions, whose order matters: the recipient, or the incident.
    pub fn key(&self) -> String {
        match self {
            Self::Event(event) => event.recipient.clone(),
            Self::Incident(incident) => incident.id.to_string(),
        }
    }

    /// The source. Of an incident, that of the cause or of the episode that the page is about; empty for a tenant.
    pub fn source(&self) -> &str {
        match self {
            Self::Event(event) => &event.source,
            Self::Incident(incident) => incident.source.as_deref().unwrap_or_default(),
        }
    }

    /// The campaign.
    pub fn campaign(&self) -> Option<&str> {
        match self {
            Self::Event(event) => event.campaign.as_deref(),
            Self::Incident(incident) => incident.campaign.as_deref(),
        }
    }

    /// `event` or `incident`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Event(_) => "event",
            Self::Incident(_) => "incident",
        }
    }

    /// Returns all fields.
    pub fn json(&self) -> Value {
        // Texts, numbers and maps of texts can always be serialized.
        match self {
            Self::Event(event) => event.json(),
            Self::Incident(incident) => serde_json::to_value(incident).unwrap_or_default(),
        }
    }

    /// Returns all fields, with `null` for those that are absent, so that a template can ask for them.
    pub(crate) fn json_with_absent_fields(&self) -> Value {
        let mut value = self.json();
        let Some(object) = value.as_object_mut() else { return value };
        let fields: &[&str] = match self {
            Self::Event(_) => &Facts::FIELDS,
            Self::Incident(_) => &IncidentFacts::FIELDS,
        };
        for field in fields {
            object.entry(*field).or_insert(Value::Null);
        }
        match self {
            Self::Event(_) => {
                object.entry("labels").or_insert_with(|| json!({}));
                object.entry("tags").or_insert_with(|| json!([]));
            }
            Self::Incident(_) => {
                object.entry("reason").or_insert(Value::Null);
            }
        }
        value
    }
}
