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
use crate::json::{self, LenientText, LenientTexts};
use crate::{Envelope, ParseError, times};

const MICROS_PER_SECOND: i64 = 1_000_000;

/// The field `id` is not read: it identifies the webhook, not the event.
#[derive(Deserialize)]
struct BrevoEvent<'a> {
    #[serde(borrow)]
    event: LenientText<'a>,
    /// Mostly in angle brackets.
    #[serde(rename = "message-id")]
    message_id: LenientText<'a>,
    /// In milliseconds, UTC.
    ts_epoch: Option<&'a RawValue>,
    /// Replaces `ts_epoch` on opens by a proxy.
    s_epoch: Option<&'a RawValue>,
    /// In seconds. Used only if both fields above are absent, because this field, `ts` and `date`
    /// may be in the account's time zone.
    ts_event: Option<&'a RawValue>,
    ts: Option<&'a RawValue>,
    tags: LenientTexts<'a>,
    /// An array, a text, or a JSON array inside a text.
    tag: LenientTexts<'a>,
    /// On marketing mail.
    camp_id: LenientText<'a>,
    reason: LenientText<'a>,
    /// Of the sending server; on opens and clicks, of the reader.
    sending_ip: LenientText<'a>,
    user_agent: LenientText<'a>,
    link: LenientText<'a>,
    /// Replaces `link` on marketing mail.
    #[serde(rename = "URL")]
    marketing_link: LenientText<'a>,
}

pub(crate) fn parse<'a>(raw: &'a [u8], envelope: &Envelope<'a>) -> Result<Event<'a>, ParseError> {
    let (mut brevo, raw) = json::event::<BrevoEvent<'a>>(raw)?;
    let kind = kind(brevo.event.as_deref());
    brevo.message_id.0 = brevo.message_id.take().and_then(without_brackets);
    brevo.link.0 = brevo.link.take().or(brevo.marketing_link.take());
    let time = times::unix(brevo.time());
    let event_id = brevo.event_id(kind, time, raw.get(), envelope);
    let occurred_at = envelope.time(kind, time)?;
    let bounce = brevo.bounce(kind);
    let is_proxy = matches!(brevo.event.as_deref(), Some("proxy_open" | "unique_proxy_open"));
    let (ip, sending_ip) = match brevo.sending_ip.0 {
        address if kind.is_engagement() => (address, None),
        address => (None, address),
    };
    Ok(Event {
        message_id: brevo.message_id.0,
        campaign: brevo.camp_id.0,
        tags: if brevo.tags.is_empty() { unpacked(brevo.tag.0) } else { brevo.tags.0 },
        bounce,
        automation: is_proxy
            .then_some(Automation { reason: AutomationReason::Proxy, confidence: 1.0 }),
        user_agent: brevo.user_agent.0,
        ip,
        sending_ip,
        url: brevo.link.0,
        provider_event: brevo.event.0.unwrap_or_default(),
        ..envelope.event(Provider::Brevo, kind, event_id, occurred_at, raw)
    })
}

impl<'a> BrevoEvent<'a> {
    fn time(&self) -> Option<&'a RawValue> {
        self.ts_epoch.or(self.s_epoch).or(self.ts_event).or(self.ts)
    }

    /// Brevo's events have no id. Their key is the message, the event name, the time and the link;
    /// events without a message have all their bytes as the key.
    ///
    /// For years the first open of a message was posted twice, as `unique_opened` and as `opened`.
    /// Now it is posted as `unique_opened` only. Ignoring either name would lose opens, so two
    /// opens of one second get the same id. The same applies to opens by a proxy, and to the old
    /// and the new name of an event.
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
        let rounded = micros.div_euclid(unit).to_be_bytes();
        if kind == Kind::Other || self.message_id.is_none() {
            return envelope.event_id(Provider::Brevo, [name, raw.as_bytes()]);
        }
        let key = [name, bytes(&self.message_id), &rounded, bytes(&self.link)];
        envelope.event_id(Provider::Brevo, key)
    }

    fn bounce(&mut self, kind: Kind) -> Option<Bounce<'a>> {
        matches!(kind, Kind::Bounced | Kind::Deferred | Kind::Dropped).then(|| {
            let provider = meaning(bounces::EVENTS, self.event.as_deref());
            Evidence { provider, diagnostic: self.reason.take(), ..Evidence::default() }.bounce()
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

/// Returns the two tags in the text `["a","b"]`.
fn unpacked(tag: Vec<Text<'_>>) -> Vec<Text<'_>> {
    let [packed] = tag.as_slice() else { return tag };
    match serde_json::from_str::<Vec<String>>(packed) {
        Ok(tags) => tags.into_iter().map(Text::from).filter_map(Text::non_empty).collect(),
        Err(_) => tag,
    }
}
