use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    Automation, Bounce, Client, Conversion, Delivery, EventId, Geo, Kind, OccurredAt, Provider,
    ReceivedAt, Text, TimeFault,
};

/// One event of one recipient: the value of `mail.enriched` and `mail.events`.
///
/// It borrows from the provider's bytes. Absent fields are left out of the JSON. The fields that
/// rates need come before `provider_event`, and `raw` comes last, so a consumer that needs only
/// those can stop reading early.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Event<'a> {
    /// The same event posted twice has the same id.
    pub event_id: EventId,
    pub kind: Kind,
    pub provider: Provider,
    /// The name of the configured source.
    #[serde(borrow)]
    pub source: Text<'a>,
    /// The provider's time; `received_at` if there is a `time_fault`.
    pub occurred_at: OccurredAt,
    /// The ingress's time.
    pub received_at: ReceivedAt,
    /// Why `occurred_at` is not the provider's time; absent if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_fault: Option<TimeFault>,
    /// The lower-cased address; absent on the few events that name no recipient.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<Text<'a>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub recipient_domain: Option<Text<'a>>,
    /// The operator of the recipient's mailbox (`gmail`, `outlook`, …); `other` if unknown.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub mailbox_provider: Option<Text<'a>>,
    /// The provider's id of the message, without angle brackets. All events of a message share it.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<Text<'a>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub campaign: Option<Text<'a>>,
    /// The provider's stream, pool or configuration set that sent the message.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<Text<'a>>,
    /// The tenant, from the operator's look-up table.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Text<'a>>,
    /// The organizational domain of `sender` (RFC 7489 §3.2), by the public suffix list.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub sender_domain: Option<Text<'a>>,
    /// The address of the server that sent the message, in the provider's spelling.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub sending_ip: Option<Text<'a>>,
    /// False if the request failed verification and only the shadow mode of its source admitted it.
    #[serde(default = "authentic", skip_serializing_if = "is_true")]
    pub authentic: bool,
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Text<'a>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub bounce: Option<Bounce<'a>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub automation: Option<Automation>,
    /// The client's user agent, on opens and clicks.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<Text<'a>>,
    /// The address of the reader's client on opens and clicks, in the provider's spelling. In events of
    /// earlier releases also the address of the sending server, on other kinds.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<Text<'a>>,
    /// The link that was clicked.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub url: Option<Text<'a>>,
    /// What the click leads to, by the operator's rules about URLs.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub conversion: Option<Conversion<'a>>,
    /// What the content behind the link is about, by the operator's rules about URLs.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub interest: Option<Text<'a>>,
    /// The provider's name of the event, such as `spamreport`.
    #[serde(borrow)]
    pub provider_event: Text<'a>,
    /// The provider's id of the event, if it has one.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub provider_event_id: Option<Text<'a>>,
    #[serde(borrow)]
    pub request_id: Text<'a>,
    /// The program that opened or clicked.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub client: Option<Client<'a>>,
    /// When the provider began to send the message, UTC microseconds, if the event carries it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_at: Option<OccurredAt>,
    /// The time that the provider states, if it is implausible; see [`TimeFault::Implausible`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claimed_at: Option<OccurredAt>,
    /// The lower-cased address that sent the message.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<Text<'a>>,
    /// How the message reached the recipient's server.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<Delivery<'a>>,
    /// What the answer of the recipient's server says about the sender, such as `listed`. The names are
    /// in a data file.
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    pub signals: Vec<Text<'a>>,
    /// The location of `ip`, on opens and clicks.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub geo: Option<Geo<'a>>,
    /// The other columns of the look-up tables, and what rules take from the raw event, by name.
    #[serde(borrow, default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<Text<'a>, Text<'a>>,
    /// The provider's bytes, unchanged.
    #[serde(borrow)]
    pub raw: &'a RawValue,
}

const fn authentic() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde requires this signature")]
const fn is_true(value: &bool) -> bool {
    *value
}

impl Event<'_> {
    /// Returns the digest of message and recipient, which connects all events of a message. `None` if
    /// the event names no message.
    pub fn engagement_id(&self) -> Option<EventId> {
        /// Earlier releases hashed here whether a machine opened. The byte stays, so that ids in
        /// existing state still match.
        const RESERVED: u8 = 0;
        let message = self.message_id.as_ref()?;
        Some(
            crate::IdBuilder::new("engagement")
                .part(&[self.provider as u8, RESERVED])
                .part(self.source.as_bytes())
                .part(message.as_bytes())
                .part(self.recipient.as_deref().unwrap_or_default().as_bytes())
                .finish(),
        )
    }

    /// Returns the event with `raw` as the provider's bytes and all texts copied, so that it no longer
    /// borrows from the bytes it was read from.
    pub fn with_raw<'r>(self, raw: &'r RawValue) -> Event<'r> {
        fn own(text: Option<Text<'_>>) -> Option<Text<'static>> {
            text.map(Text::into_owned)
        }
        Event {
            event_id: self.event_id,
            kind: self.kind,
            provider: self.provider,
            source: self.source.into_owned(),
            occurred_at: self.occurred_at,
            received_at: self.received_at,
            time_fault: self.time_fault,
            recipient: own(self.recipient),
            recipient_domain: own(self.recipient_domain),
            mailbox_provider: own(self.mailbox_provider),
            message_id: own(self.message_id),
            campaign: own(self.campaign),
            stream: own(self.stream),
            tenant: own(self.tenant),
            sender_domain: own(self.sender_domain),
            sending_ip: own(self.sending_ip),
            authentic: self.authentic,
            tags: self.tags.into_iter().map(Text::into_owned).collect(),
            bounce: self.bounce.map(|bounce| Bounce {
                permanence: bounce.permanence,
                class: bounce.class,
                side: bounce.side,
                status: own(bounce.status),
                diagnostic: own(bounce.diagnostic),
                late: bounce.late,
            }),
            automation: self.automation,
            user_agent: own(self.user_agent),
            ip: own(self.ip),
            url: own(self.url),
            conversion: self.conversion.map(|conversion| Conversion {
                name: conversion.name.into_owned(),
                value: conversion.value,
            }),
            interest: own(self.interest),
            provider_event: self.provider_event.into_owned(),
            provider_event_id: own(self.provider_event_id),
            request_id: self.request_id.into_owned(),
            client: self.client.map(|client| Client {
                device: client.device,
                os: own(client.os),
                name: own(client.name),
            }),
            sent_at: self.sent_at,
            claimed_at: self.claimed_at,
            sender: own(self.sender),
            delivery: self.delivery.map(|delivery| Delivery {
                server: own(delivery.server),
                response: own(delivery.response),
                tls: delivery.tls,
                millis: delivery.millis,
            }),
            signals: self.signals.into_iter().map(Text::into_owned).collect(),
            geo: self.geo.map(|geo| Geo {
                country: own(geo.country),
                region: own(geo.region),
                city: own(geo.city),
                asn: geo.asn,
                network: own(geo.network),
                time_zone: own(geo.time_zone),
            }),
            labels: self
                .labels
                .into_iter()
                .map(|(name, value)| (name.into_owned(), value.into_owned()))
                .collect(),
            raw,
        }
    }
}
