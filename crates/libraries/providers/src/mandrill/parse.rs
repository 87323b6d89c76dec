use event::{Delivery, Event, EventId, Kind, Provider};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::bounces;
use super::split::kind;
use crate::bounce::{Evidence, meaning, numbers};
use crate::envelope::bytes;
use crate::json::{self, LenientObject, LenientObjects, LenientText, LenientTexts};
use crate::place::Place;
use crate::{Envelope, ParseError, sending, times};

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
    location: LenientObject<Location<'a>>,
    /// Replaces `event` on changes of the reject list and the allow list.
    #[serde(rename = "type")]
    list: LenientText<'a>,
    action: LenientText<'a>,
}

#[derive(Default, Deserialize)]
struct Message<'a> {
    #[serde(borrow, rename = "_id")]
    id: LenientText<'a>,
    ts: Option<&'a RawValue>,
    sender: LenientText<'a>,
    tags: LenientTexts<'a>,
    /// `[]` if it is empty.
    metadata: LenientObject<Metadata<'a>>,
    bounce_description: LenientText<'a>,
    bgtools_code: LenientText<'a>,
    /// The answer of the receiving server.
    diag: LenientText<'a>,
    /// The attempts so far, the latest last.
    smtp_events: LenientObjects<Attempt<'a>>,
}

#[derive(Default, Deserialize)]
struct Attempt<'a> {
    #[serde(borrow)]
    source_ip: LenientText<'a>,
    destination_ip: LenientText<'a>,
    /// The answer of the receiving server.
    diag: LenientText<'a>,
}

#[derive(Default, Deserialize)]
struct Location<'a> {
    #[serde(borrow)]
    country_short: LenientText<'a>,
    region: LenientText<'a>,
    city: LenientText<'a>,
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
    let mut message = mandrill.msg.0;
    let attempt = message.smtp_events.pop().unwrap_or_default();
    let (is_delivered, is_deferred) = (kind == Kind::Delivered, kind == Kind::Deferred);
    // A deferral has the answer of the server only in its attempt.
    let answer = message.diag.take().or_else(|| attempt.diag.0.clone().filter(|_| is_deferred));
    let delivery = Delivery {
        server: attempt.destination_ip.0,
        response: attempt.diag.0.filter(|_| is_delivered),
        ..Delivery::default()
    };
    let bounce = matches!(kind, Kind::Bounced | Kind::Deferred | Kind::Dropped).then(|| {
        let described = meaning(bounces::DESCRIPTIONS, message.bounce_description.as_deref());
        let event = meaning(bounces::EVENTS, mandrill.event.as_deref());
        let provider = described.or(event).or(numbers::meaning(message.bgtools_code.as_deref()));
        let evidence = Evidence { provider, diagnostic: answer, ..Evidence::default() };
        evidence.bounce_or(message.bounce_description.0)
    });
    let metadata = message.metadata.0;
    let Location { country_short, region, city } = mandrill.location.0;
    let place = Place { country: country_short.0, region: region.0, city: city.0 };
    Ok(Event {
        message_id: mandrill.id.0.or(message.id.0),
        campaign: metadata.campaign.0.or(metadata.campaign_id.0),
        tags: message.tags.0,
        bounce,
        user_agent: mandrill.user_agent.0,
        ip: mandrill.ip.0,
        sending_ip: attempt.source_ip.0,
        sent_at: envelope.sent_at(times::unix(message.ts)),
        sender: sending::sender(message.sender.0),
        delivery: sending::known(delivery).filter(|_| kind.is_attempt()),
        geo: place.geo().filter(|_| kind.is_engagement()),
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
