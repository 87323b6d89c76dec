use std::borrow::Cow;

use event::{
    Automation, AutomationReason, Bounce, Event, EventId, Kind, OccurredAt, Provider, Text,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::bounces;
use super::split::kind;
use crate::bounce::{Evidence, meaning};
use crate::envelope::bytes;
use crate::{Envelope, ParseError, json, times};

const MICROS_PER_SECOND: i64 = 1_000_000;

/// `id` is left out: it is the webhook's.
#[derive(Deserialize)]
struct Record<'a> {
    #[serde(borrow, default, deserialize_with = "json::word")]
    event: Option<Text<'a>>,
    /// In angle brackets, mostly.
    #[serde(borrow, default, rename = "message-id", deserialize_with = "json::word")]
    message_id: Option<Text<'a>>,
    /// UTC, milliseconds.
    #[serde(borrow, default)]
    ts_epoch: Option<&'a RawValue>,
    /// The same on opens by a proxy.
    #[serde(borrow, default)]
    s_epoch: Option<&'a RawValue>,
    /// Seconds, where there is nothing better: these and `date` may be in the account's own zone.
    #[serde(borrow, default)]
    ts_event: Option<&'a RawValue>,
    #[serde(borrow, default)]
    ts: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "json::words")]
    tags: Vec<Text<'a>>,
    /// An array, a text, or an array inside a text.
    #[serde(borrow, default, deserialize_with = "json::words")]
    tag: Vec<Text<'a>>,
    /// Of marketing mail.
    #[serde(borrow, default, deserialize_with = "json::word")]
    camp_id: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    reason: Option<Text<'a>>,
    /// The client's on opens and clicks.
    #[serde(borrow, default, deserialize_with = "json::word")]
    sending_ip: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    user_agent: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    link: Option<Text<'a>>,
}

pub(crate) fn parse<'a>(raw: &'a [u8], envelope: &Envelope<'a>) -> Result<Event<'a>, ParseError> {
    let (mut record, raw) = json::event::<Record<'a>>(raw)?;
    let kind = kind(record.event.as_deref());
    record.message_id = record.message_id.and_then(without_brackets);
    let time = times::unix(record.time());
    let event_id = record.event_id(kind, time, raw.get(), envelope);
    let occurred_at = envelope.time(kind, time)?;
    let bounce = record.bounce(kind);
    let by_proxy = matches!(record.event.as_deref(), Some("proxy_open" | "unique_proxy_open"));
    Ok(Event {
        message_id: record.message_id,
        campaign: record.camp_id,
        tags: if record.tags.is_empty() { unpacked(record.tag) } else { record.tags },
        bounce,
        automation: by_proxy
            .then_some(Automation { reason: AutomationReason::Proxy, confidence: 1.0 }),
        user_agent: record.user_agent,
        ip: record.sending_ip,
        url: record.link,
        provider_event: record.event.unwrap_or_default(),
        ..envelope.event(Provider::Brevo, kind, event_id, occurred_at, raw)
    })
}

impl<'a> Record<'a> {
    fn time(&self) -> Option<&'a RawValue> {
        self.ts_epoch.or(self.s_epoch).or(self.ts_event).or(self.ts)
    }

    /// Brevo's events have no id: they are known by message, event, time and link; those of no
    /// message by all they say.
    ///
    /// The first open of a message was posted twice for years, as `unique_opened` and as `opened`,
    /// and is now posted as `unique_opened` alone. Neither name can be left out, so the two of one
    /// second are one event, whichever comes first. The same goes for a proxy's, and for names
    /// that were changed.
    fn event_id(
        &self,
        kind: Kind,
        time: Result<OccurredAt, ParseError>,
        raw: &str,
        envelope: &Envelope<'_>,
    ) -> EventId {
        let name: &[u8] = match self.event.as_deref().unwrap_or_default() {
            "unique_opened" => b"opened",
            "unique_proxy_open" => b"proxy_open",
            "complaint" => b"spam",
            "unsubscribe" => b"unsubscribed",
            other => other.as_bytes(),
        };
        let micros = time.map_or(0, OccurredAt::micros);
        let unit = if kind == Kind::Opened { MICROS_PER_SECOND } else { 1 };
        let moment = micros.div_euclid(unit).to_be_bytes();
        if kind == Kind::Other || self.message_id.is_none() {
            return envelope.event_id(Provider::Brevo, [name, raw.as_bytes()]);
        }
        let key = [name, bytes(&self.message_id), &moment, bytes(&self.link)];
        envelope.event_id(Provider::Brevo, key)
    }

    fn bounce(&mut self, kind: Kind) -> Option<Bounce<'a>> {
        matches!(kind, Kind::Bounced | Kind::Deferred | Kind::Dropped).then(|| {
            let provider = meaning(bounces::EVENTS, self.event.as_deref());
            Evidence { provider, diagnostic: self.reason.take(), ..Evidence::default() }.judge()
        })
    }
}

fn without_brackets(id: Text<'_>) -> Option<Text<'_>> {
    fn bare(id: &str) -> &str {
        id.trim_start_matches('<').trim_end_matches('>')
    }
    match id.0 {
        Cow::Borrowed(id) => Text::from(bare(id)),
        Cow::Owned(id) => Text::from(bare(&id).to_owned()),
    }
    .non_empty()
}

/// `"[\"a\",\"b\"]"` is two tags.
fn unpacked(tag: Vec<Text<'_>>) -> Vec<Text<'_>> {
    let [packed] = tag.as_slice() else { return tag };
    match serde_json::from_str::<Vec<String>>(packed) {
        Ok(tags) => tags.into_iter().map(Text::from).filter_map(Text::non_empty).collect(),
        Err(_) => tag,
    }
}
