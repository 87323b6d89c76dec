use event::{
    Automation, AutomationReason, Bounce, Event, EventId, Kind, Permanence, Provider, Text,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::split::kind;
use crate::bounce::{Evidence, Meaning};
use crate::envelope::bytes;
use crate::{Envelope, ParseError, json, times};

/// Our own form of an event.
#[derive(Deserialize)]
pub(crate) struct Record<'a> {
    #[serde(borrow, default, deserialize_with = "json::word")]
    id: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    event: Option<Text<'a>>,
    /// Unix seconds or milliseconds, or RFC 3339.
    #[serde(borrow, default)]
    timestamp: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    message_id: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    campaign: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::words")]
    tags: Vec<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::part")]
    bounce: Refused<'a>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    url: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    ip: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    user_agent: Option<Text<'a>>,
    /// Opened or clicked by a machine.
    #[serde(default, deserialize_with = "json::flag")]
    machine: bool,
}

#[derive(Default, Deserialize)]
struct Refused<'a> {
    /// `hard`, `soft` or `undetermined`.
    #[serde(borrow, default, deserialize_with = "json::word")]
    permanence: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    status: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    diagnostic: Option<Text<'a>>,
}

pub(crate) fn parse<'a>(raw: &'a [u8], envelope: &Envelope<'a>) -> Result<Event<'a>, ParseError> {
    let (record, raw) = json::event::<Record<'a>>(raw)?;
    record.into_event(Provider::Generic, None, raw, envelope)
}

impl<'a> Record<'a> {
    /// The event, of whichever provider sends this form; `sent_at` is its time where the record
    /// itself has none, `raw` is what is kept.
    pub(crate) fn into_event(
        self,
        provider: Provider,
        sent_at: Option<&'a RawValue>,
        raw: &'a RawValue,
        envelope: &Envelope<'a>,
    ) -> Result<Event<'a>, ParseError> {
        let kind = kind(self.event.as_deref());
        let timestamp = self.timestamp.or(sent_at);
        let occurred_at = envelope.time(kind, times::any(timestamp))?;
        let event_id = self.event_id(provider, timestamp, envelope);
        let refused = matches!(kind, Kind::Bounced | Kind::Deferred | Kind::Dropped);
        let bounce = refused.then(|| self.bounce.judge(kind));
        let machine = kind.is_engagement() && self.machine;
        Ok(Event {
            message_id: self.message_id,
            campaign: self.campaign,
            tags: self.tags,
            bounce,
            automation: machine
                .then_some(Automation { reason: AutomationReason::Bot, confidence: 1.0 }),
            user_agent: self.user_agent,
            ip: self.ip,
            url: self.url,
            provider_event: self.event.unwrap_or_default(),
            provider_event_id: self.id,
            ..envelope.event(provider, kind, event_id, occurred_at, raw)
        })
    }

    /// `id`; without one, the event is known by what it says.
    fn event_id(
        &self,
        provider: Provider,
        timestamp: Option<&RawValue>,
        envelope: &Envelope<'_>,
    ) -> EventId {
        if self.id.is_some() {
            return envelope.event_id(provider, [bytes(&self.id)]);
        }
        let timestamp = timestamp.map_or("", RawValue::get).as_bytes();
        envelope.event_id(
            provider,
            [bytes(&self.event), timestamp, bytes(&self.message_id), bytes(&self.url)],
        )
    }
}

impl<'a> Refused<'a> {
    fn judge(self, kind: Kind) -> Bounce<'a> {
        let said = self.permanence.as_deref();
        let permanence = Permanence::ALL.iter().find(|p| Some(p.as_str()) == said).copied();
        let silent = if kind == Kind::Deferred { Meaning::SOFT } else { Meaning::default() };
        Evidence {
            provider: Meaning { permanence, class: None }.or(silent),
            status: self.status,
            diagnostic: self.diagnostic,
            late: false,
        }
        .judge()
    }
}
