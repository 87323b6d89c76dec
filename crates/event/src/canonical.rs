use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{Bounce, EventId, Kind, OccurredAt, Provider, ReceivedAt, Text};

/// Why an open or click is held to be a machine's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AutomationReason {
    /// The provider says Apple Mail Privacy Protection fetched it.
    AppleMpp,
    /// The provider names an image proxy or prefetcher.
    Proxy,
    /// The provider flags it as a bot without saying which.
    Bot,
}

impl AutomationReason {
    /// Every reason.
    pub const ALL: &'static [Self] = &[Self::AppleMpp, Self::Proxy, Self::Bot];

    /// The stable snake-case name: JSON value and ClickHouse value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AppleMpp => "apple_mpp",
            Self::Proxy => "proxy",
            Self::Bot => "bot",
        }
    }
}

/// A machine, not a person, opened or clicked. Such events are kept and counted apart.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Automation {
    /// Why we think so.
    pub reason: AutomationReason,
    /// How sure we are, from 0 to 1.
    pub confidence: f32,
}

/// One event at one recipient: the value of `mail.enriched` and `mail.events`.
///
/// Borrows from the provider's bytes. Absent fields are left out of the JSON. The fields that
/// rates need come first and `raw` last, so a reader in a hurry scans little.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Event<'a> {
    /// Stable identity; the same webhook posted twice has the same one.
    pub event_id: EventId,
    /// What became of the message.
    pub kind: Kind,
    /// Who told us.
    pub provider: Provider,
    /// The configured source (tenant, account) under that provider.
    #[serde(borrow)]
    pub source: Text<'a>,
    /// The provider's time, UTC microseconds.
    pub occurred_at: OccurredAt,
    /// The ingress's time, UTC microseconds.
    pub received_at: ReceivedAt,
    /// Lower-cased address; absent on the few events that name nobody.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<Text<'a>>,
    /// The recipient's domain.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub recipient_domain: Option<Text<'a>>,
    /// Who runs the recipient's mailbox (`gmail`, `outlook`, …), `other` when not known.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub mailbox_provider: Option<Text<'a>>,
    /// The provider's id of the message, the same for all of its events; no angle brackets.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<Text<'a>>,
    /// The campaign it belongs to.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub campaign: Option<Text<'a>>,
    /// Tags or categories.
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Text<'a>>,
    /// What is known of a refusal.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub bounce: Option<Bounce<'a>>,
    /// Set when a machine opened or clicked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub automation: Option<Automation>,
    /// The client's user agent, on opens and clicks.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<Text<'a>>,
    /// The client's address on opens and clicks, the sending address on others, as the provider
    /// writes it.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<Text<'a>>,
    /// The link that was followed.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub url: Option<Text<'a>>,
    /// The provider's own name of the event, such as `spamreport`.
    #[serde(borrow)]
    pub provider_event: Text<'a>,
    /// The provider's own id of the event, where it has one.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub provider_event_id: Option<Text<'a>>,
    /// The HTTP request it came in.
    #[serde(borrow)]
    pub request_id: Text<'a>,
    /// The provider's bytes, unchanged.
    #[serde(borrow)]
    pub raw: &'a RawValue,
}

impl Event<'_> {
    /// The identity of "this recipient engaged with this message": what unique opens and clicks
    /// are counted by. `None` unless this is an open or click of a known message. Machines and
    /// people are told apart, so a prefetch does not hide the reader behind it.
    pub fn engagement_id(&self) -> Option<EventId> {
        let message = self.message_id.as_ref()?;
        self.kind.is_engagement().then(|| {
            crate::IdBuilder::new("engagement")
                .part(&[self.provider as u8, u8::from(self.automation.is_some())])
                .part(self.source.as_bytes())
                .part(message.as_bytes())
                .part(self.recipient.as_deref().unwrap_or_default().as_bytes())
                .finish()
        })
    }
}
