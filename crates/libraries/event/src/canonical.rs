use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    Automation, Bounce, Client, EventId, Geo, Kind, OccurredAt, Provider, ReceivedAt, Text,
};

/// One event at one recipient: the value of `mail.enriched` and `mail.events`.
///
/// Borrows from the provider's bytes. Absent fields are left out of the JSON. The fields that
/// rates need come before `provider_event`, and `raw` last, so a reader in a hurry scans little.
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
    /// The provider's stream, pool or configuration set it was sent through.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<Text<'a>>,
    /// The operator's name for whose mail it is, from the look-up table.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Text<'a>>,
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
    /// What opened or clicked.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub client: Option<Client<'a>>,
    /// Where `ip` is, on opens and clicks.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub geo: Option<Geo<'a>>,
    /// The other columns of the look-up table, by their names.
    #[serde(borrow, default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<Text<'a>, Text<'a>>,
    /// The provider's bytes, unchanged.
    #[serde(borrow)]
    pub raw: &'a RawValue,
}

impl Event<'_> {
    /// The identity of "this message at this recipient": what unique opens and clicks are counted
    /// by, and what an engagement is compared with its delivery by. `None` unless this is a
    /// delivery, an open or a click of a known message.
    pub fn engagement_id(&self) -> Option<EventId> {
        /// Once told people from machines; kept, so that ids remembered before still hold.
        const PEOPLE: u8 = 0;
        let message = self.message_id.as_ref()?;
        let is_asked = self.kind.is_engagement() || self.kind == Kind::Delivered;
        is_asked.then(|| {
            crate::IdBuilder::new("engagement")
                .part(&[self.provider as u8, PEOPLE])
                .part(self.source.as_bytes())
                .part(message.as_bytes())
                .part(self.recipient.as_deref().unwrap_or_default().as_bytes())
                .finish()
        })
    }
}
