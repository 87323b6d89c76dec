use event::{Event, Kind, Provider};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::envelope::bytes;
use crate::generic::GenericEvent;
use crate::json::{self, LenientText};
use crate::{Envelope, ParseError, times};

#[derive(Deserialize)]
struct StandardWebhooksEvent<'a> {
    #[serde(borrow)]
    event: LenientText<'a>,
    #[serde(rename = "type")]
    event_type: LenientText<'a>,
    timestamp: Option<&'a RawValue>,
    data: Option<&'a RawValue>,
}

/// The field that distinguishes Mailpulse's generic form from other objects.
#[derive(Deserialize)]
struct GenericName<'a> {
    #[serde(borrow)]
    event: LenientText<'a>,
}

pub(crate) fn parse<'a>(raw: &'a [u8], envelope: &Envelope<'a>) -> Result<Event<'a>, ParseError> {
    const PROVIDER: Provider = Provider::StandardWebhooks;
    let (webhook, whole) = json::event::<StandardWebhooksEvent<'a>>(raw)?;
    if webhook.event.is_some() {
        let (generic, _) = json::event::<GenericEvent<'a>>(raw)?;
        return generic.into_event(PROVIDER, None, whole, envelope);
    }
    let data = webhook.data.map_or("", RawValue::get);
    // An object that cannot be read is an error, so that it is repaired.
    let is_generic =
        data.starts_with('{') && json::event::<GenericName<'_>>(data.as_bytes())?.0.event.is_some();
    if is_generic {
        let (generic, _) = json::event::<GenericEvent<'a>>(data.as_bytes())?;
        return generic.into_event(PROVIDER, webhook.timestamp, whole, envelope);
    }
    let occurred_at = envelope.time(Kind::Other, times::any(webhook.timestamp))?;
    // The id is in a header, which is not kept. All delivery attempts have the same body.
    let timestamp = webhook.timestamp.map_or("", RawValue::get).as_bytes();
    let key = [bytes(&webhook.event_type), timestamp, data.as_bytes()];
    let event_id = envelope.event_id(PROVIDER, key);
    Ok(Event {
        provider_event: webhook.event_type.0.unwrap_or_default(),
        ..envelope.event(PROVIDER, Kind::Other, event_id, occurred_at, whole)
    })
}
