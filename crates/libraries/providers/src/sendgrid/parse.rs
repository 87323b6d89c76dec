use std::borrow::Cow;

use event::{Automation, AutomationReason, Event, Kind, Provider, Text};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::bounces;
use super::split::kind;
use crate::bounce::{Evidence, Meaning, meaning};
use crate::envelope::bytes;
use crate::{Envelope, ParseError, json, times};

/// The fields we know of an event. Unique arguments of the sender lie beside them, at the same
/// level; the reserved names win.
#[derive(Deserialize)]
struct Record<'a> {
    #[serde(borrow, default, deserialize_with = "json::word")]
    event: Option<Text<'a>>,
    #[serde(borrow, default)]
    timestamp: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    sg_event_id: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    sg_message_id: Option<Text<'a>>,
    #[serde(borrow, default, rename = "smtp-id", deserialize_with = "json::word")]
    smtp_id: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::words")]
    category: Vec<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    marketing_campaign_id: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    singlesend_id: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    campaign: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    campaign_id: Option<Text<'a>>,
    #[serde(borrow, default, rename = "type", deserialize_with = "json::word")]
    bounce_type: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    bounce_classification: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    reason: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    response: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    status: Option<Text<'a>>,
    #[serde(default, deserialize_with = "json::flag")]
    sg_machine_open: bool,
    #[serde(borrow, default, deserialize_with = "json::word")]
    ip: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    useragent: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    url: Option<Text<'a>>,
}

pub(crate) fn parse<'a>(raw: &'a [u8], envelope: &Envelope<'a>) -> Result<Event<'a>, ParseError> {
    let (record, raw) = json::event::<Record<'a>>(raw)?;
    let kind = kind(record.event.as_deref());
    let occurred_at = envelope.time(kind, times::unix(record.timestamp))?;
    let event_id = record.event_id(envelope);
    let late = kind == Kind::Bounced && record.sg_message_id.is_none();
    let evidence = match kind {
        Kind::Bounced => {
            Some(meaning(bounces::TYPES, record.bounce_type.as_deref()).or(record.classified()))
        }
        Kind::Deferred => Some(Meaning::SOFT.or(record.classified())),
        Kind::Dropped => {
            Some(meaning(bounces::DROPS, record.reason.as_deref()).or(record.classified()))
        }
        _ => None,
    };
    let bounce = evidence.map(|provider| {
        let diagnostic = record.reason.or(record.response);
        Evidence { provider, status: record.status, diagnostic, late }.judge()
    });
    // Apple Mail Privacy Protection fetches the pixel, whether or not anybody reads.
    let machine = kind == Kind::Opened && record.sg_machine_open;
    Ok(Event {
        message_id: message_id(record.sg_message_id, record.smtp_id),
        campaign: record
            .marketing_campaign_id
            .or(record.singlesend_id)
            .or(record.campaign)
            .or(record.campaign_id),
        tags: record.category,
        bounce,
        automation: machine
            .then_some(Automation { reason: AutomationReason::AppleMpp, confidence: 1.0 }),
        user_agent: record.useragent,
        ip: record.ip,
        url: record.url,
        provider_event: record.event.unwrap_or_default(),
        provider_event_id: record.sg_event_id,
        ..envelope.event(Provider::SendGrid, kind, event_id, occurred_at, raw)
    })
}

impl Record<'_> {
    fn classified(&self) -> Meaning {
        meaning(bounces::CLASSES, self.bounce_classification.as_deref())
    }

    /// `sg_event_id` is unique. The few events without one are known by what they say.
    fn event_id(&self, envelope: &Envelope<'_>) -> event::EventId {
        if self.sg_event_id.is_some() {
            return envelope.event_id(Provider::SendGrid, [bytes(&self.sg_event_id)]);
        }
        let timestamp = self.timestamp.map_or("", RawValue::get).as_bytes();
        envelope.event_id(
            Provider::SendGrid,
            [
                bytes(&self.event),
                timestamp,
                bytes(&self.sg_message_id),
                bytes(&self.smtp_id),
                bytes(&self.url),
                bytes(&self.ip),
            ],
        )
    }
}

/// What all events of a message share: the part of `sg_message_id` before its first full stop.
///
/// Asynchronous bounces carry only `smtp-id`, the Message-ID. Where SendGrid made it up, as
/// `<id@ismtpd….sendgrid.net>`, its `id` begins with the same text.
fn message_id<'a>(sg_message_id: Option<Text<'a>>, smtp_id: Option<Text<'a>>) -> Option<Text<'a>> {
    fn stem(text: &str) -> &str {
        text.split('.').next().unwrap_or(text)
    }
    fn own_stem(text: &str) -> &str {
        let bare = text.trim_start_matches('<').trim_end_matches('>');
        match bare.split_once('@') {
            Some((id, host)) if host.contains("ismtpd") => stem(id),
            _ => bare,
        }
    }
    let (text, cut): (Text<'a>, fn(&str) -> &str) = match (sg_message_id, smtp_id) {
        (Some(text), _) => (text, stem),
        (None, Some(text)) => (text, own_stem),
        (None, None) => return None,
    };
    match text.0 {
        Cow::Borrowed(text) => Text::from(cut(text)),
        Cow::Owned(text) => Text::from(cut(&text).to_owned()),
    }
    .non_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_bounce_joins_its_message() {
        let id = |sg, smtp| message_id(Option::map(sg, Text::from), Option::map(smtp, Text::from));
        let delivered =
            id(Some("LRzXl_N.recvd-5f-x.0"), Some("<LRzXl_N@ismtpd0039p1.sendgrid.net>"));
        let late = id(None, Some("<LRzXl_N@ismtpd0039p1.sendgrid.net>"));
        assert_eq!(delivered.as_deref(), Some("LRzXl_N"));
        assert_eq!(delivered, late);
        let own = id(None, Some("<2026.11.7@mail.example.com>"));
        assert_eq!(own.as_deref(), Some("2026.11.7@mail.example.com"));
        assert_eq!(id(None, Some("<>")), None);
        assert_eq!(id(None, None), None);
    }
}
