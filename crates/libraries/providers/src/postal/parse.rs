use event::{Bounce, Event, Kind, Permanence, Provider};

use super::record::Record;
use crate::bounce::{Evidence, Meaning};
use crate::{Envelope, ParseError, json, times};

pub(crate) fn parse<'a>(raw: &'a [u8], envelope: &Envelope<'a>) -> Result<Event<'a>, ParseError> {
    let (record, raw) = json::event::<Record<'a>>(raw)?;
    let kind = record.kind();
    let occurred_at = envelope.time(kind, times::unix(record.timestamp))?;
    let key = record.uuid.as_deref().unwrap_or(raw.get());
    let event_id = envelope.event_id(Provider::Postal, [key.as_bytes()]);
    let refused = matches!(kind, Kind::Bounced | Kind::Deferred | Kind::Dropped);
    let bounce = refused.then(|| bounce(&record, kind));
    let message = record.message();
    Ok(Event {
        message_id: message.and_then(|message| message.message_id.clone()),
        tags: message.and_then(|message| message.tag.clone()).into_iter().collect(),
        bounce,
        user_agent: record.payload.user_agent,
        ip: record.payload.ip_address,
        url: record.payload.url,
        provider_event: record.event.unwrap_or_default(),
        provider_event_id: record.uuid,
        ..envelope.event(Provider::Postal, kind, event_id, occurred_at, raw)
    })
}

fn bounce<'a>(record: &Record<'a>, kind: Kind) -> Bounce<'a> {
    let permanence = match kind {
        // Held until someone releases it.
        Kind::Deferred | Kind::Dropped => Permanence::Soft,
        _ => Permanence::Hard,
    };
    let payload = &record.payload;
    let explained = payload.details.as_ref().or(payload.bounce.subject.as_ref()).cloned();
    Evidence {
        provider: Meaning { permanence: Some(permanence), class: None },
        status: None,
        diagnostic: payload.output.clone(),
        late: record.event.as_deref() == Some("MessageBounced"),
    }
    .judge_with(explained)
}
