use event::{
    Automation, AutomationReason, Bounce, Delivery, Event, EventId, Kind, OccurredAt, Provider,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::bounces;
use super::split::{Terms, kind};
use super::wrapper::Element;
use crate::bounce::{Evidence, meaning, numbers};
use crate::envelope::bytes;
use crate::json::{self, LenientFlag, LenientObject, LenientText, LenientTexts};
use crate::place::Place;
use crate::{Envelope, ParseError, sending, times};

#[derive(Default, Deserialize)]
struct SparkPostEvent<'a> {
    #[serde(borrow, rename = "type")]
    event_type: LenientText<'a>,
    event_id: LenientText<'a>,
    /// In unix seconds, mostly as a text.
    timestamp: Option<&'a RawValue>,
    message_id: LenientText<'a>,
    transmission_id: LenientText<'a>,
    campaign_id: LenientText<'a>,
    rcpt_tags: LenientTexts<'a>,
    rcpt_meta: LenientObject<Metadata<'a>>,
    bounce_class: LenientText<'a>,
    fbtype: LenientText<'a>,
    /// The answer of the receiving server. `reason` is the same without addresses.
    raw_reason: LenientText<'a>,
    reason: LenientText<'a>,
    /// The client's address on opens and clicks, otherwise the receiving server's.
    ip_address: LenientText<'a>,
    sending_ip: LenientText<'a>,
    /// The address in the header `From`.
    friendly_from: LenientText<'a>,
    injection_time: Option<&'a RawValue>,
    /// From the injection to this event, in milliseconds.
    queue_time: Option<&'a RawValue>,
    /// 1 if the connection to the receiving server was encrypted.
    outbound_tls: LenientFlag,
    geo_ip: LenientObject<Location<'a>>,
    user_agent: LenientText<'a>,
    user_agent_parsed: LenientObject<Agent>,
    is_prefetched: LenientFlag,
    target_link_url: LenientText<'a>,
}

#[derive(Default, Deserialize)]
struct Metadata<'a> {
    #[serde(borrow)]
    campaign: LenientText<'a>,
    campaign_id: LenientText<'a>,
}

#[derive(Default, Deserialize)]
struct Location<'a> {
    #[serde(borrow)]
    country: LenientText<'a>,
    region: LenientText<'a>,
    city: LenientText<'a>,
}

#[derive(Default, Deserialize)]
struct Agent {
    is_prefetched: LenientFlag,
}

pub(crate) fn parse<'a>(raw: &'a [u8], envelope: &Envelope<'a>) -> Result<Event<'a>, ParseError> {
    let (element, raw) = json::event::<Element<'a, SparkPostEvent<'a>>>(raw)?;
    let (class, event) = element.msys.0.map_or((None, None), |msys| (msys.class, msys.event));
    let mut sparkpost = event.unwrap_or_default();
    let kind = kind(&Terms {
        event_type: sparkpost.event_type.as_deref(),
        bounce_class: sparkpost.bounce_class.as_deref(),
        fbtype: sparkpost.fbtype.as_deref(),
    });
    let time = times::any(sparkpost.timestamp);
    let occurred_at = envelope.time(kind, time)?;
    let sent_at = envelope.sent_at(sparkpost.injected_at(kind, time));
    let event_id = sparkpost.event_id(raw.get(), envelope);
    let bounce = sparkpost.bounce(kind);
    let is_engagement = kind.is_engagement();
    let (ip, server) = match sparkpost.ip_address.0 {
        address if is_engagement => (address, None),
        address => (None, address),
    };
    let delivery = Delivery {
        server,
        response: None,
        tls: sparkpost.outbound_tls.0,
        millis: sending::millis(sparkpost.queue_time),
    };
    let Location { country, region, city } = sparkpost.geo_ip.0;
    let place = Place { country: country.0, region: region.0, city: city.0 };
    let is_prefetched =
        sparkpost.is_prefetched.is_set() || sparkpost.user_agent_parsed.is_prefetched.is_set();
    let metadata = sparkpost.rcpt_meta.0;
    Ok(Event {
        message_id: sparkpost.message_id.0.or(sparkpost.transmission_id.0),
        campaign: sparkpost.campaign_id.0.or(metadata.campaign.0).or(metadata.campaign_id.0),
        tags: sparkpost.rcpt_tags.0,
        bounce,
        automation: (is_engagement && is_prefetched)
            .then_some(Automation { reason: AutomationReason::Proxy, confidence: 1.0 }),
        user_agent: sparkpost.user_agent.0,
        ip,
        sending_ip: sparkpost.sending_ip.0,
        sent_at,
        sender: sending::sender(sparkpost.friendly_from.0),
        delivery: sending::known(delivery).filter(|_| kind.is_attempt()),
        geo: place.geo().filter(|_| is_engagement),
        url: sparkpost.target_link_url.0,
        provider_event: sparkpost.event_type.0.or(class).unwrap_or_default(),
        provider_event_id: sparkpost.event_id.0,
        ..envelope.event(Provider::SparkPost, kind, event_id, occurred_at, raw)
    })
}

impl<'a> SparkPostEvent<'a> {
    /// `event_id` is unique. The few events without one have all their bytes as the key.
    fn event_id(&self, raw: &str, envelope: &Envelope<'_>) -> EventId {
        let event_type = bytes(&self.event_type);
        let key = if self.event_id.is_some() { bytes(&self.event_id) } else { raw.as_bytes() };
        envelope.event_id(Provider::SparkPost, [event_type, key])
    }

    /// Returns when SparkPost took the message in. Older events have no `injection_time`.
    fn injected_at(
        &self,
        kind: Kind,
        time: Result<OccurredAt, ParseError>,
    ) -> Result<OccurredAt, ParseError> {
        const MICROS_PER_MILLI: i64 = 1_000;
        if self.injection_time.is_some() {
            return times::any(self.injection_time);
        }
        if kind == Kind::Accepted {
            return time;
        }
        let queued = sending::millis(self.queue_time).ok_or(ParseError::MissingTime)?;
        Ok(OccurredAt(time?.micros() - queued.cast_signed() * MICROS_PER_MILLI))
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
            .bounce()
        })
    }
}
