use event::{Event, EventId, Kind, Provider};

use super::record::Record;
use crate::bounce::{Evidence, Meaning};
use crate::envelope::bytes;
use crate::{Envelope, ParseError, json, times};

/// What the vendor's test payloads carry in place of a message's id.
const NO_MESSAGE: &str = "00000000-0000-0000-0000-000000000000";

pub(crate) fn parse<'a>(raw: &'a [u8], envelope: &Envelope<'a>) -> Result<Event<'a>, ParseError> {
    let (record, raw) = json::event::<Record<'a>>(raw)?;
    let kind = record.kind();
    let occurred_at = envelope.time(kind, times::rfc3339(record.time()))?;
    let event_id = event_id(&record, raw.get(), envelope);
    let provider = record.bounce_type().map_or_else(Meaning::default, |row| row.meaning);
    let bounce = matches!(kind, Kind::Bounced | Kind::Deferred | Kind::Dropped).then(|| {
        let evidence = Evidence { provider, diagnostic: record.details, ..Evidence::default() };
        evidence.judge_with(record.description)
    });
    Ok(Event {
        message_id: record.message_id.filter(|id| id.as_str() != NO_MESSAGE),
        campaign: record.metadata.campaign.or(record.metadata.campaign_id),
        tags: record.tag.into_iter().collect(),
        bounce,
        user_agent: record.user_agent,
        ip: record.geo.ip,
        url: record.original_link,
        provider_event: record.record_type.unwrap_or_default(),
        provider_event_id: record.id,
        ..envelope.event(Provider::Postmark, kind, event_id, occurred_at, raw)
    })
}

/// Only bounces and complaints have an id. The rest are known by what they say: a message's id is
/// shared by its recipients, its opens and its clicks.
fn event_id(record: &Record<'_>, raw: &str, envelope: &Envelope<'_>) -> EventId {
    let id = |key: &[&[u8]]| envelope.event_id(Provider::Postmark, key.iter().copied());
    let (record_type, message) = (bytes(&record.record_type), bytes(&record.message_id));
    match record.record_type.as_deref().unwrap_or_default() {
        // Of one sequence: a complaint that comes as both has the same id in both.
        "Bounce" | "SpamComplaint" if record.id.is_some() => id(&[b"Bounce", bytes(&record.id)]),
        "Delivery" => id(&[record_type, message]),
        "Open" | "Click" => {
            id(&[record_type, message, bytes(&record.received_at), bytes(&record.original_link)])
        }
        "SubscriptionChange" => {
            let suppressed: &[u8] = match record.suppress_sending {
                Some(true) => b"true",
                Some(false) => b"false",
                None => b"",
            };
            let stream = bytes(&record.message_stream);
            id(&[record_type, stream, bytes(&record.changed_at), suppressed])
        }
        _ => id(&[record_type, raw.as_bytes()]),
    }
}
