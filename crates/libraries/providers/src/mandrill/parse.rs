use event::{Event, EventId, Kind, Provider};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::bounces;
use super::split::kind;
use crate::bounce::{Evidence, meaning, numbers};
use crate::envelope::bytes;
use crate::json::{self, LenientObject, LenientText, LenientTexts};
use crate::{Envelope, ParseError, times};

#[derive(Deserialize)]
struct MandrillEvent<'a> {
    #[serde(borrow)]
    event: LenientText<'a>,
    /// The id of the message. All its events share it.
    #[serde(rename = "_id")]
    id: LenientText<'a>,
    /// The time of the event. `msg.ts` is the time of sending.
    ts: Option<&'a RawValue>,
    msg: LenientObject<Message<'a>>,
    ip: LenientText<'a>,
    user_agent: LenientText<'a>,
    url: LenientText<'a>,
    /// Replaces `event` on changes of the reject list and the allow list.
    #[serde(rename = "type")]
    list: LenientText<'a>,
    action: LenientText<'a>,
}

#[derive(Default, Deserialize)]
struct Message<'a> {
    #[serde(borrow, rename = "_id")]
    id: LenientText<'a>,
    tags: LenientTexts<'a>,
    /// `[]` if it is empty.
    metadata: LenientObject<Metadata<'a>>,
    bounce_description: LenientText<'a>,
    bgtools_code: LenientText<'a>,
    /// The answer of the receiving server.
    diag: LenientText<'a>,
}

#[derive(Default, Deserialize)]
struct Metadata<'a> {
    #[serde(borrow)]
    campaign: LenientText<'a>,
    campaign_id: LenientText<'a>,
}

pub(crate) fn parse<'a>(raw: &'a [u8], envelope: &Envelope<'a>) -> Result<Event<'a>, ParseError> {
    let (mandrill, raw) = json::event::<MandrillEvent<'a>>(raw)?;
    let kind = kind(mandrill.event.as_deref(), mandrill.msg.bgtools_code.as_deref());
    let occurred_at = envelope.time(kind, times::unix(mandrill.ts))?;
    let event_id = mandrill.event_id(raw.get(), envelope);
    let message = mandrill.msg.0;
    let bounce = matches!(kind, Kind::Bounced | Kind::Deferred | Kind::Dropped).then(|| {
        let described = meaning(bounces::DESCRIPTIONS, message.bounce_description.as_deref());
        let event = meaning(bounces::EVENTS, mandrill.event.as_deref());
        let provider = described.or(event).or(numbers::meaning(message.bgtools_code.as_deref()));
        let evidence = Evidence { provider, diagnostic: message.diag.0, ..Evidence::default() };
        evidence.bounce_or(message.bounce_description.0)
    });
    let metadata = message.metadata.0;
    Ok(Event {
        message_id: mandrill.id.0.or(message.id.0),
        campaign: metadata.campaign.0.or(metadata.campaign_id.0),
        tags: message.tags.0,
        bounce,
        user_agent: mandrill.user_agent.0,
        ip: mandrill.ip.0,
        url: mandrill.url.0,
        provider_event: mandrill.event.0.or(mandrill.list.0).unwrap_or_default(),
        ..envelope.event(Provider::Mandrill, kind, event_id, occurred_at, raw)
    })
}

impl MandrillEvent<'_> {
    /// Mandrill's events have no id. Their key is made of the fields that identify them; if there is
    /// no message or no time, of all bytes.
    fn event_id(&self, raw: &str, envelope: &Envelope<'_>) -> EventId {
        let ts = self.ts.map_or("", RawValue::get).as_bytes();
        let message = if self.id.is_some() { &self.id } else { &self.msg.id };
        if self.event.is_none() || message.is_none() || self.ts.is_none() {
            let name = if self.event.is_some() { &self.event } else { &self.list };
            let key = [bytes(name), bytes(&self.action), raw.as_bytes()];
            return envelope.event_id(Provider::Mandrill, key);
        }
        let key = [bytes(message), bytes(&self.event), ts, bytes(&self.url)];
        envelope.event_id(Provider::Mandrill, key)
    }
}
