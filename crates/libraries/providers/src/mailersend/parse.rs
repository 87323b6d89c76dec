use event::{Event, EventId, Kind, Permanence, Provider, Text};
use serde::Deserialize;

use super::split::kind;
use crate::bounce::{Evidence, Meaning};
use crate::envelope::bytes;
use crate::{Envelope, ParseError, json, times};

#[derive(Deserialize)]
struct Record<'a> {
    #[serde(borrow, default, rename = "type", deserialize_with = "json::word")]
    event: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    created_at: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::part")]
    data: Data<'a>,
}

#[derive(Default, Deserialize)]
struct Data<'a> {
    #[serde(borrow, default, deserialize_with = "json::word")]
    id: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    created_at: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::part")]
    email: Email<'a>,
    /// What the event adds to the message, by its own `object`; `null` where it adds nothing.
    #[serde(borrow, default, deserialize_with = "json::part")]
    morph: Morph<'a>,
}

#[derive(Default, Deserialize)]
struct Email<'a> {
    #[serde(borrow, default, deserialize_with = "json::part")]
    message: Message<'a>,
    #[serde(borrow, default, deserialize_with = "json::words")]
    tags: Vec<Text<'a>>,
}

#[derive(Default, Deserialize)]
struct Message<'a> {
    #[serde(borrow, default, deserialize_with = "json::word")]
    id: Option<Text<'a>>,
}

#[derive(Default, Deserialize)]
struct Morph<'a> {
    #[serde(borrow, default, deserialize_with = "json::word")]
    reason: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    ip: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    user_agent: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    url: Option<Text<'a>>,
}

pub(crate) fn parse<'a>(raw: &'a [u8], envelope: &Envelope<'a>) -> Result<Event<'a>, ParseError> {
    let (record, raw) = json::event::<Record<'a>>(raw)?;
    let kind = kind(record.event.as_deref());
    let happened = record.data.created_at.as_deref().or(record.created_at.as_deref());
    let occurred_at = envelope.time(kind, times::rfc3339(happened))?;
    let event_id = record.event_id(raw.get(), envelope);
    let Data { id, email, morph, .. } = record.data;
    let bounce = matches!(kind, Kind::Bounced | Kind::Deferred).then(|| {
        let permanence = match record.event.as_deref() {
            Some("activity.hard_bounced") => Permanence::Hard,
            _ => Permanence::Soft,
        };
        let provider = Meaning { permanence: Some(permanence), class: None };
        Evidence { provider, diagnostic: morph.reason, ..Evidence::default() }.judge()
    });
    Ok(Event {
        message_id: email.message.id,
        tags: email.tags,
        bounce,
        user_agent: morph.user_agent,
        ip: morph.ip,
        url: morph.url,
        provider_event: record.event.unwrap_or_default(),
        provider_event_id: id,
        ..envelope.event(Provider::MailerSend, kind, event_id, occurred_at, raw)
    })
}

impl Record<'_> {
    /// `data.id`, and the type: that an open and its `_unique` twin never share one is not said.
    fn event_id(&self, raw: &str, envelope: &Envelope<'_>) -> EventId {
        let key = match &self.data.id {
            Some(id) => id.as_bytes(),
            None => raw.as_bytes(),
        };
        envelope.event_id(Provider::MailerSend, [bytes(&self.event), key])
    }
}
