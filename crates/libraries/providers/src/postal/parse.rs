use event::{Bounce, Delivery, Event, Kind, Permanence, Provider};

use super::bounces;
use super::event::PostalEvent;
use crate::bounce::{Evidence, Meaning, meaning};
use crate::{Envelope, ParseError, json, sending, times};

pub(crate) fn parse<'a>(raw: &'a [u8], envelope: &Envelope<'a>) -> Result<Event<'a>, ParseError> {
    let (postal, raw) = json::event::<PostalEvent<'a>>(raw)?;
    let kind = postal.kind();
    let occurred_at = envelope.time(kind, times::unix(postal.timestamp))?;
    let key = postal.uuid.as_deref().unwrap_or(raw.get());
    let event_id = envelope.event_id(Provider::Postal, [key.as_bytes()]);
    let is_refused = matches!(kind, Kind::Bounced | Kind::Deferred | Kind::Dropped);
    let bounce = is_refused.then(|| bounce(&postal, kind));
    let message = postal.message();
    let message_id = message.and_then(|message| message.message_id.0.clone());
    let tag = message.and_then(|message| message.tag.0.clone());
    let sender = message.and_then(|message| sending::sender(message.from.0.clone()));
    let sent_at = times::unix(message.and_then(|message| message.timestamp));
    let payload = postal.payload.0;
    let delivery = Delivery {
        server: None,
        response: payload.output.0.filter(|_| kind == Kind::Delivered),
        tls: payload.sent_with_ssl.0,
        millis: sending::millis_of_seconds(payload.time),
    };
    Ok(Event {
        message_id,
        tags: tag.into_iter().collect(),
        bounce,
        user_agent: payload.user_agent.0,
        ip: payload.ip_address.0,
        sent_at: envelope.sent_at(sent_at),
        sender,
        delivery: sending::known(delivery).filter(|_| kind.is_attempt()),
        url: payload.url.0,
        provider_event: postal.event.0.unwrap_or_default(),
        provider_event_id: postal.uuid.0,
        ..envelope.event(Provider::Postal, kind, event_id, occurred_at, raw)
    })
}

fn bounce<'a>(postal: &PostalEvent<'a>, kind: Kind) -> Bounce<'a> {
    let permanence = match kind {
        // Held until a person releases it.
        Kind::Deferred | Kind::Dropped => Permanence::Soft,
        _ => Permanence::Hard,
    };
    let payload = &postal.payload;
    let explanation = payload.details.as_ref().or(payload.bounce.subject.as_ref()).cloned();
    let reason = meaning(bounces::DETAILS, payload.details.as_deref());
    Evidence {
        provider: reason.or(Meaning { permanence: Some(permanence), class: None }),
        status: None,
        diagnostic: payload.output.0.clone(),
        late: postal.event.as_deref() == Some("MessageBounced"),
    }
    .bounce_or(explanation)
}
