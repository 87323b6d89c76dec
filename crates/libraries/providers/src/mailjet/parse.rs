use event::{Bounce, Event, EventId, Kind, Permanence, Provider, Text};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::bounces;
use super::split::kind;
use crate::bounce::{Evidence, Meaning, meaning};
use crate::envelope::bytes;
use crate::{Envelope, ParseError, json, times};

#[derive(Deserialize)]
struct Record<'a> {
    #[serde(borrow, default, deserialize_with = "json::word")]
    event: Option<Text<'a>>,
    #[serde(borrow, default)]
    time: Option<&'a RawValue>,
    /// Above 2^53: never by way of a double.
    #[serde(borrow, default, rename = "MessageID", deserialize_with = "json::word")]
    message_id: Option<Text<'a>>,
    /// The same as a text, before there was `MessageID`.
    #[serde(borrow, default, deserialize_with = "json::word")]
    mj_message_id: Option<Text<'a>>,
    /// The sender's own name of the campaign.
    #[serde(borrow, default, deserialize_with = "json::word")]
    customcampaign: Option<Text<'a>>,
    /// 0 for none.
    #[serde(borrow, default, deserialize_with = "json::word")]
    mj_campaign_id: Option<Text<'a>>,
    #[serde(default, deserialize_with = "json::maybe_flag")]
    hard_bounce: Option<bool>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    error_related_to: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    error: Option<Text<'a>>,
    /// What the server answered.
    #[serde(borrow, default, deserialize_with = "json::word")]
    comment: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    ip: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    agent: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    url: Option<Text<'a>>,
}

pub(crate) fn parse<'a>(raw: &'a [u8], envelope: &Envelope<'a>) -> Result<Event<'a>, ParseError> {
    let (mut record, raw) = json::event::<Record<'a>>(raw)?;
    let kind = kind(record.event.as_deref());
    let occurred_at = envelope.time(kind, times::unix(record.time))?;
    record.message_id = record.message_id.or(record.mj_message_id.take());
    let event_id = record.event_id(kind, raw.get(), envelope);
    let bounce = record.bounce(kind);
    let campaign_id = record.mj_campaign_id.filter(|id| id.as_str() != "0");
    Ok(Event {
        message_id: record.message_id,
        campaign: record.customcampaign.or(campaign_id),
        bounce,
        user_agent: record.agent,
        ip: record.ip,
        url: record.url,
        provider_event: record.event.unwrap_or_default(),
        ..envelope.event(Provider::Mailjet, kind, event_id, occurred_at, raw)
    })
}

impl<'a> Record<'a> {
    /// Mailjet's events have no id: they are known by message, event, time, link and client; those
    /// of no message by all they say.
    fn event_id(&self, kind: Kind, raw: &str, envelope: &Envelope<'_>) -> EventId {
        let event = bytes(&self.event);
        if kind == Kind::Other || self.message_id.is_none() {
            return envelope.event_id(Provider::Mailjet, [event, raw.as_bytes()]);
        }
        let time = self.time.map_or("", RawValue::get).as_bytes();
        let key = [bytes(&self.message_id), event, time, bytes(&self.url), bytes(&self.ip)];
        envelope.event_id(Provider::Mailjet, key)
    }

    fn bounce(&mut self, kind: Kind) -> Option<Bounce<'a>> {
        matches!(kind, Kind::Bounced | Kind::Dropped).then(|| {
            let own = |is_hard| if is_hard { Permanence::Hard } else { Permanence::Soft };
            let said = Meaning { permanence: self.hard_bounce.map(own), class: None };
            let related = self.error_related_to.as_deref();
            let provider = said
                .or(meaning(bounces::ERRORS, self.error.as_deref()))
                .or(meaning(bounces::ERRORS, related))
                .or(meaning(bounces::RELATED, related));
            let diagnostic = self.comment.take();
            let evidence = Evidence { provider, diagnostic, ..Evidence::default() };
            evidence.judge_with(self.error.take())
        })
    }
}
