//! What a rule knows of an event.

use std::collections::BTreeMap;

use event::{Event, EventId, Kind, OccurredAt, Provider, ReceivedAt, Text};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::EngagementDelta;

/// The part of an event that rules, templates and receivers see: everything except the provider's bytes and
/// technical details. `mail.intents`, `mail.actions` and webhooks contain it as `event`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// The id of the event.
    pub event_id: EventId,
    /// The kind.
    pub kind: Kind,
    /// The provider.
    pub provider: Provider,
    /// The configured source.
    pub source: String,
    /// When it happened: UTC microseconds.
    pub occurred_at: OccurredAt,
    /// When the ingress received it: UTC microseconds.
    pub received_at: ReceivedAt,
    /// The address in lower case.
    pub recipient: String,
    /// The operator of the recipient's mailbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mailbox_provider: Option<String>,
    /// The provider's id of the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// The campaign.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub campaign: Option<String>,
    /// The provider's stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// The tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The address that sent the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<String>,
    /// The link that was clicked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// What the content behind the link is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interest: Option<String>,
    /// The name of the conversion that the click leads to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversion: Option<String>,
    /// The time zone of the reader, on opens and clicks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// The tags of the message.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// The operator's labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Whether no machine caused it.
    pub human: bool,
    /// Whether the request was verified.
    pub authentic: bool,
    /// What the event counts for in the score. Receivers do not get it.
    #[serde(skip)]
    pub counts: EngagementDelta,
}

impl Facts {
    /// The fields that settings can name after `event.`, besides `labels.NAME`.
    pub const FIELDS: [&str; 16] = [
        "event_id",
        "kind",
        "provider",
        "source",
        "occurred_at",
        "received_at",
        "recipient",
        "mailbox_provider",
        "message_id",
        "campaign",
        "stream",
        "tenant",
        "sender",
        "url",
        "interest",
        "conversion",
    ];

    /// Returns the facts of an event, or `None` if the event names no recipient.
    pub fn of(event: &Event<'_>) -> Option<Self> {
        let text = |text: &Option<Text<'_>>| text.as_ref().map(|text| text.as_str().to_owned());
        Some(Self {
            event_id: event.event_id,
            kind: event.kind,
            provider: event.provider,
            source: event.source.as_str().to_owned(),
            occurred_at: event.occurred_at,
            received_at: event.received_at,
            recipient: text(&event.recipient)?,
            mailbox_provider: text(&event.mailbox_provider),
            message_id: text(&event.message_id),
            campaign: text(&event.campaign),
            stream: text(&event.stream),
            tenant: text(&event.tenant),
            sender: text(&event.sender),
            url: text(&event.url),
            interest: text(&event.interest),
            conversion: event.conversion.as_ref().map(|it| it.name.as_str().to_owned()),
            time_zone: event.geo.as_ref().and_then(|geo| text(&geo.time_zone)),
            tags: event.tags.iter().map(|tag| tag.as_str().to_owned()).collect(),
            labels: event
                .labels
                .iter()
                .map(|(name, value)| (name.as_str().to_owned(), value.as_str().to_owned()))
                .collect(),
            human: event.automation.is_none(),
            authentic: event.authentic,
            counts: EngagementDelta::default(),
        })
    }

    /// When the event happened, but not after its receipt: UTC microseconds.
    pub fn happened_at(&self) -> i64 {
        self.occurred_at.not_after(self.received_at).micros()
    }

    /// Returns whether settings can name the field after `event.`.
    pub fn has_field(name: &str) -> bool {
        let label = name.strip_prefix("labels.");
        Self::FIELDS.contains(&name) || label.is_some_and(|label| !label.is_empty())
    }

    /// Returns the value of a field of [`Self::FIELDS`], or of `labels.NAME`. `None` if the event has none.
    pub fn field(&self, name: &str) -> Option<Value> {
        Self::field_of(&self.json(), name)
    }

    /// Returns all fields.
    pub fn json(&self) -> Value {
        // Texts, numbers and maps of texts can always be serialized.
        serde_json::to_value(self).unwrap_or_default()
    }

    /// Returns what [`Self::field`] returns, from all fields.
    pub fn field_of(json: &Value, name: &str) -> Option<Value> {
        match name.strip_prefix("labels.") {
            Some(label) => json.get("labels")?.get(label).cloned(),
            None => json.get(name).cloned(),
        }
    }

    /// Returns an event with every field, to try templates on.
    pub fn sample() -> Self {
        let text = |text: &str| Some(text.to_owned());
        Self {
            event_id: EventId([7; 16]),
            kind: Kind::Clicked,
            provider: Provider::Ses,
            source: "acme".to_owned(),
            occurred_at: OccurredAt(1_795_255_200_000_000),
            received_at: ReceivedAt(1_795_255_201_000_000),
            recipient: "ada@example.com".to_owned(),
            mailbox_provider: text("gmail"),
            message_id: text("m1"),
            campaign: text("spring-sale"),
            stream: text("news"),
            tenant: text("acme"),
            sender: text("news@acme.example"),
            url: text("https://acme.example/offer"),
            interest: text("shoes"),
            conversion: text("order"),
            time_zone: text("Europe/Berlin"),
            tags: vec!["spring".to_owned()],
            labels: BTreeMap::new(),
            human: true,
            authentic: true,
            counts: EngagementDelta::default(),
        }
    }
}
