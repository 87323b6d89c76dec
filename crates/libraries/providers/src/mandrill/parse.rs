use event::{Event, EventId, Kind, Provider, Text};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::bounces;
use super::split::kind;
use crate::bounce::{Evidence, meaning, numbers};
use crate::envelope::bytes;
use crate::{Envelope, ParseError, json, times};

#[derive(Deserialize)]
struct Record<'a> {
    #[serde(borrow, default, deserialize_with = "json::word")]
    event: Option<Text<'a>>,
    /// The message's id: the same for all of its events.
    #[serde(borrow, default, rename = "_id", deserialize_with = "json::word")]
    id: Option<Text<'a>>,
    /// When it happened; `msg.ts` is when the message was sent.
    #[serde(borrow, default)]
    ts: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "json::part")]
    msg: Message<'a>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    ip: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    user_agent: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    url: Option<Text<'a>>,
    /// In place of `event` on changes to the reject and allow lists.
    #[serde(borrow, default, rename = "type", deserialize_with = "json::word")]
    list: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    action: Option<Text<'a>>,
}

#[derive(Default, Deserialize)]
struct Message<'a> {
    #[serde(borrow, default, rename = "_id", deserialize_with = "json::word")]
    id: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::words")]
    tags: Vec<Text<'a>>,
    /// `[]` when empty.
    #[serde(borrow, default, deserialize_with = "json::part")]
    metadata: Metadata<'a>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    bounce_description: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    bgtools_code: Option<Text<'a>>,
    /// What the receiving server answered.
    #[serde(borrow, default, deserialize_with = "json::word")]
    diag: Option<Text<'a>>,
}

#[derive(Default, Deserialize)]
struct Metadata<'a> {
    #[serde(borrow, default, deserialize_with = "json::word")]
    campaign: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    campaign_id: Option<Text<'a>>,
}

pub(crate) fn parse<'a>(raw: &'a [u8], envelope: &Envelope<'a>) -> Result<Event<'a>, ParseError> {
    let (record, raw) = json::event::<Record<'a>>(raw)?;
    let kind = kind(record.event.as_deref());
    let occurred_at = envelope.time(kind, times::unix(record.ts))?;
    let event_id = record.event_id(envelope);
    let message = record.msg;
    let bounce = matches!(kind, Kind::Bounced | Kind::Deferred | Kind::Dropped).then(|| {
        let described = meaning(bounces::DESCRIPTIONS, message.bounce_description.as_deref());
        let event = meaning(bounces::EVENTS, record.event.as_deref());
        let provider = described.or(event).or(numbers::meaning(message.bgtools_code.as_deref()));
        let evidence = Evidence { provider, diagnostic: message.diag, ..Evidence::default() };
        evidence.judge_with(message.bounce_description)
    });
    Ok(Event {
        message_id: record.id.or(message.id),
        campaign: message.metadata.campaign.or(message.metadata.campaign_id),
        tags: message.tags,
        bounce,
        user_agent: record.user_agent,
        ip: record.ip,
        url: record.url,
        provider_event: record.event.or(record.list).unwrap_or_default(),
        ..envelope.event(Provider::Mandrill, kind, event_id, occurred_at, raw)
    })
}

impl Record<'_> {
    /// Mandrill's events have no id of their own.
    fn event_id(&self, envelope: &Envelope<'_>) -> EventId {
        let ts = self.ts.map_or("", RawValue::get).as_bytes();
        if self.event.is_none() {
            let key = [bytes(&self.list), bytes(&self.action), ts];
            return envelope.event_id(Provider::Mandrill, key);
        }
        let message = if self.id.is_some() { &self.id } else { &self.msg.id };
        let key = [bytes(message), bytes(&self.event), ts, bytes(&self.url)];
        envelope.event_id(Provider::Mandrill, key)
    }
}
