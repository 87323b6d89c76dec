use event::{Automation, AutomationReason, Event, EventId, Kind, Permanence, Provider, Text};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::split::kind;
use crate::bounce::{Evidence, Meaning};
use crate::envelope::bytes;
use crate::{Envelope, ParseError, json, times};

#[derive(Deserialize)]
struct Record<'a> {
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
    let kind = kind(record.event.as_deref());
    let occurred_at = envelope.time(kind, times::any(record.timestamp))?;
    let event_id = record.event_id(envelope);
    let bounce = matches!(kind, Kind::Bounced | Kind::Deferred | Kind::Dropped).then(|| {
        let said = record.bounce.permanence.as_deref();
        let permanence = Permanence::ALL.iter().find(|p| Some(p.as_str()) == said).copied();
        let silent = if kind == Kind::Deferred { Meaning::SOFT } else { Meaning::default() };
        Evidence {
            provider: Meaning { permanence, class: None }.or(silent),
            status: record.bounce.status,
            diagnostic: record.bounce.diagnostic,
            late: false,
        }
        .judge()
    });
    let machine = kind.is_engagement() && record.machine;
    Ok(Event {
        message_id: record.message_id,
        campaign: record.campaign,
        tags: record.tags,
        bounce,
        automation: machine
            .then_some(Automation { reason: AutomationReason::Bot, confidence: 1.0 }),
        user_agent: record.user_agent,
        ip: record.ip,
        url: record.url,
        provider_event: record.event.unwrap_or_default(),
        provider_event_id: record.id,
        ..envelope.event(Provider::Generic, kind, event_id, occurred_at, raw)
    })
}

impl Record<'_> {
    /// `id`; without one, the event is known by what it says.
    fn event_id(&self, envelope: &Envelope<'_>) -> EventId {
        if self.id.is_some() {
            return envelope.event_id(Provider::Generic, [bytes(&self.id)]);
        }
        let timestamp = self.timestamp.map_or("", RawValue::get).as_bytes();
        envelope.event_id(
            Provider::Generic,
            [bytes(&self.event), timestamp, bytes(&self.message_id), bytes(&self.url)],
        )
    }
}
