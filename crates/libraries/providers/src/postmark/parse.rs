use event::{BounceClass, Delivery, Event, EventId, Kind, Provider};

use super::event::{Geo, PostmarkEvent};
use crate::bounce::{Evidence, Meaning};
use crate::envelope::bytes;
use crate::place::Place;
use crate::{Envelope, ParseError, json, sending, times};

/// Postmark's test payloads have this instead of a message id.
const NO_MESSAGE: &str = "00000000-0000-0000-0000-000000000000";

pub(crate) fn parse<'a>(raw: &'a [u8], envelope: &Envelope<'a>) -> Result<Event<'a>, ParseError> {
    let (postmark, raw) = json::event::<PostmarkEvent<'a>>(raw)?;
    let kind = postmark.kind();
    let occurred_at = envelope.time(kind, times::first(postmark.times()))?;
    let event_id = event_id(&postmark, raw.get(), envelope);
    let provider: Meaning = postmark.bounce_type().map_or_else(Meaning::default, |row| row.meaning);
    let is_refused = matches!(kind, Kind::Bounced | Kind::Deferred | Kind::Dropped);
    let is_reply = provider.class == Some(BounceClass::AutoReply);
    let bounce = (is_refused || is_reply).then(|| {
        let diagnostic = postmark.details.0.clone();
        let evidence = Evidence { provider, diagnostic, ..Evidence::default() };
        evidence.bounce_or(postmark.description.0)
    });
    let metadata = postmark.metadata.0;
    let delivery = Delivery { response: postmark.details.0, ..Delivery::default() };
    let Geo { ip, country, region, city } = postmark.geo.0;
    let place = Place { country: country.0, region: region.0, city: city.0 };
    Ok(Event {
        message_id: postmark.message_id.0.filter(|id| id.as_str() != NO_MESSAGE),
        campaign: metadata.campaign.0.or(metadata.campaign_id.0),
        tags: postmark.tag.0.into_iter().collect(),
        bounce,
        user_agent: postmark.user_agent.0,
        ip: ip.0,
        sender: sending::sender(postmark.from.0),
        delivery: sending::known(delivery).filter(|_| kind == Kind::Delivered),
        geo: place.geo().filter(|_| kind.is_engagement()),
        url: postmark.original_link.0,
        provider_event: postmark.record_type.0.unwrap_or_default(),
        provider_event_id: postmark.id.0,
        ..envelope.event(Provider::Postmark, kind, event_id, occurred_at, raw)
    })
}

/// Only bounces and complaints have an id. The key of the others is made of their fields, because
/// all recipients, opens and clicks of a message share the message id. If one of these fields is
/// missing, the key is all bytes.
fn event_id(postmark: &PostmarkEvent<'_>, raw: &str, envelope: &Envelope<'_>) -> EventId {
    let id = |key: &[&[u8]]| envelope.event_id(Provider::Postmark, key.iter().copied());
    let (record_type, message) = (bytes(&postmark.record_type), bytes(&postmark.message_id));
    match postmark.record_type.as_deref().unwrap_or_default() {
        // Both share one sequence of ids: a complaint that is posted as both has one id.
        "Bounce" | "SpamComplaint" if postmark.id.is_some() => {
            id(&[b"Bounce", bytes(&postmark.id)])
        }
        "Delivery" if postmark.message_id.is_some() => id(&[record_type, message]),
        "Open" | "Click" if postmark.message_id.is_some() && postmark.received_at.is_some() => {
            id(&[
                record_type,
                message,
                bytes(&postmark.received_at),
                bytes(&postmark.original_link),
            ])
        }
        "SubscriptionChange" if postmark.changed_at.is_some() => {
            let suppressed: &[u8] = match postmark.suppress_sending.0 {
                Some(true) => b"true",
                Some(false) => b"false",
                None => b"",
            };
            let stream = bytes(&postmark.message_stream);
            id(&[record_type, stream, bytes(&postmark.changed_at), suppressed])
        }
        _ => id(&[record_type, raw.as_bytes()]),
    }
}
