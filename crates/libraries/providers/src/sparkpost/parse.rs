use event::{
    Automation, AutomationReason, Bounce, Event, EventId, Kind, OccurredAt, Provider, Text,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::bounces;
use super::split::kind;
use super::wrapper::Element;
use crate::bounce::{Evidence, meaning, numbers};
use crate::envelope::bytes;
use crate::{Envelope, ParseError, json, times};

#[derive(Default, Deserialize)]
struct Record<'a> {
    #[serde(borrow, default, rename = "type", deserialize_with = "json::word")]
    event_type: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    event_id: Option<Text<'a>>,
    /// Unix seconds, mostly as a text.
    #[serde(borrow, default)]
    timestamp: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    message_id: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    transmission_id: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    campaign_id: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::words")]
    rcpt_tags: Vec<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::part")]
    rcpt_meta: Metadata<'a>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    bounce_class: Option<Text<'a>>,
    /// What the server answered; `reason` is the same without addresses.
    #[serde(borrow, default, deserialize_with = "json::word")]
    raw_reason: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    reason: Option<Text<'a>>,
    /// The client's on opens and clicks, otherwise the receiving server's.
    #[serde(borrow, default, deserialize_with = "json::word")]
    ip_address: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    sending_ip: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    user_agent: Option<Text<'a>>,
    #[serde(default, deserialize_with = "json::part")]
    user_agent_parsed: Agent,
    #[serde(default, deserialize_with = "json::flag")]
    is_prefetched: bool,
    #[serde(borrow, default, deserialize_with = "json::word")]
    target_link_url: Option<Text<'a>>,
}

#[derive(Default, Deserialize)]
struct Metadata<'a> {
    #[serde(borrow, default, deserialize_with = "json::word")]
    campaign: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    campaign_id: Option<Text<'a>>,
}

#[derive(Default, Deserialize)]
struct Agent {
    #[serde(default, deserialize_with = "json::flag")]
    is_prefetched: bool,
}

pub(crate) fn parse<'a>(raw: &'a [u8], envelope: &Envelope<'a>) -> Result<Event<'a>, ParseError> {
    let (element, raw) = json::event::<Element<'a, Record<'a>>>(raw)?;
    let (class, record) = element.msys.map_or((None, None), |msys| (msys.class, msys.event));
    let mut record = record.unwrap_or_default();
    let kind = kind(record.event_type.as_deref(), record.bounce_class.as_deref());
    let occurred_at = envelope.time(kind, time(record.timestamp, envelope))?;
    let event_id = record.event_id(raw.get(), envelope);
    let bounce = record.bounce(kind);
    let is_engagement = kind.is_engagement();
    let ip = if is_engagement { record.ip_address } else { record.sending_ip };
    let prefetched = record.is_prefetched || record.user_agent_parsed.is_prefetched;
    Ok(Event {
        message_id: record.message_id.or(record.transmission_id),
        campaign: record.campaign_id.or(record.rcpt_meta.campaign).or(record.rcpt_meta.campaign_id),
        tags: record.rcpt_tags,
        bounce,
        automation: (is_engagement && prefetched)
            .then_some(Automation { reason: AutomationReason::Proxy, confidence: 1.0 }),
        user_agent: record.user_agent,
        ip,
        url: record.target_link_url,
        provider_event: record.event_type.or(class).unwrap_or_default(),
        provider_event_id: record.event_id,
        ..envelope.event(Provider::SparkPost, kind, event_id, occurred_at, raw)
    })
}

/// Some events have no time; they are posted within seconds of it.
fn time(timestamp: Option<&RawValue>, envelope: &Envelope<'_>) -> Result<OccurredAt, ParseError> {
    match times::unix(timestamp) {
        Err(ParseError::MissingTime) => Ok(OccurredAt(envelope.received_at.micros())),
        read => read,
    }
}

impl<'a> Record<'a> {
    /// `event_id` is unique. The few events without one are known by all they say.
    fn event_id(&self, raw: &str, envelope: &Envelope<'_>) -> EventId {
        let event_type = bytes(&self.event_type);
        let key = if self.event_id.is_some() { bytes(&self.event_id) } else { raw.as_bytes() };
        envelope.event_id(Provider::SparkPost, [event_type, key])
    }

    fn bounce(&mut self, kind: Kind) -> Option<Bounce<'a>> {
        matches!(kind, Kind::Bounced | Kind::Deferred | Kind::Dropped).then(|| {
            let event_type = self.event_type.as_deref();
            let number = numbers::meaning(self.bounce_class.as_deref());
            Evidence {
                provider: meaning(bounces::TYPES, event_type).or(number),
                status: None,
                late: event_type == Some("out_of_band"),
                diagnostic: self.raw_reason.take().or(self.reason.take()),
            }
            .judge()
        })
    }
}
