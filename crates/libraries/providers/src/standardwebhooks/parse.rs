use event::{Event, Kind, Provider, Text};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::envelope::bytes;
use crate::{Envelope, ParseError, generic, json, times};

#[derive(Deserialize)]
struct Record<'a> {
    #[serde(borrow, default, deserialize_with = "json::word")]
    event: Option<Text<'a>>,
    #[serde(borrow, default, rename = "type", deserialize_with = "json::word")]
    event_type: Option<Text<'a>>,
    #[serde(borrow, default)]
    timestamp: Option<&'a RawValue>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

/// What makes an object one of our generic form.
#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow, default, deserialize_with = "json::word")]
    event: Option<Text<'a>>,
}

pub(crate) fn parse<'a>(raw: &'a [u8], envelope: &Envelope<'a>) -> Result<Event<'a>, ParseError> {
    const PROVIDER: Provider = Provider::StandardWebhooks;
    let (record, whole) = json::event::<Record<'a>>(raw)?;
    if record.event.is_some() {
        let (generic, _) = json::event::<generic::Record<'a>>(raw)?;
        return generic.into_event(PROVIDER, None, whole, envelope);
    }
    let data = record.data.map_or("", RawValue::get);
    if let Ok((Named { event: Some(_) }, _)) = json::event::<Named<'_>>(data.as_bytes()) {
        let (generic, _) = json::event::<generic::Record<'a>>(data.as_bytes())?;
        return generic.into_event(PROVIDER, record.timestamp, whole, envelope);
    }
    let occurred_at = envelope.time(Kind::Other, times::any(record.timestamp))?;
    // The id is in a header. All attempts to deliver it carry the same body.
    let timestamp = record.timestamp.map_or("", RawValue::get).as_bytes();
    let key = [bytes(&record.event_type), timestamp, data.as_bytes()];
    let event_id = envelope.event_id(PROVIDER, key);
    Ok(Event {
        provider_event: record.event_type.unwrap_or_default(),
        ..envelope.event(PROVIDER, Kind::Other, event_id, occurred_at, whole)
    })
}
